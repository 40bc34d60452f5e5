/* The floor: what a UDP server on this kernel costs that does nothing.
 *
 *     echo HOST PORT
 *
 * Sends every datagram back with the answer bit set, a batch at a time (recvmmsg, sendmmsg). No server that
 * reads its questions from a socket can answer with less. Ends by signal.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { BATCH = 64, SIZE = 4096, BUFFER = 4 * 1024 * 1024 };

int main(int argc, char **argv)
{
    static unsigned char bytes[BATCH][SIZE];
    static struct sockaddr_in from[BATCH];
    static struct iovec parts[BATCH];
    static struct mmsghdr messages[BATCH];
    struct sockaddr_in address = {.sin_family = AF_INET};
    int socket_fd = socket(AF_INET, SOCK_DGRAM, 0), size = BUFFER;

    if (argc != 3 || !inet_aton(argv[1], &address.sin_addr))
        return 2;
    address.sin_port = htons(atoi(argv[2]));
    setsockopt(socket_fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    if (bind(socket_fd, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("bind");
        return 1;
    }
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){bytes[i], SIZE};
            messages[i].msg_hdr = (struct msghdr){
                .msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &parts[i], .msg_iovlen = 1};
        }
        int got = recvmmsg(socket_fd, messages, BATCH, MSG_WAITFORONE, NULL);
        for (int i = 0; i < got; i++) {
            bytes[i][2] |= 0x80;
            parts[i].iov_len = messages[i].msg_len;
        }
        for (int sent = 0, now; sent < got; sent += now)
            if ((now = sendmmsg(socket_fd, messages + sent, got - sent, 0)) <= 0)
                now = 1; /* this one cannot be sent: go on with the next */
    }
}
