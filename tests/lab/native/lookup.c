/* What an application does: getaddrinfo, again and again, with the stub resolver of whichever libc this is built with.
 *
 *     lookup EVERY_MS TIMES NAME...
 *
 * Looks the names up in turn, one every EVERY_MS, TIMES in all (0: until SIGTERM). One line for each, flushed:
 *
 *     MONOTONIC_S  TAKEN_MS  NAME  ok ADDRESS...  |  error WORDS
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void look_up(const char *name)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL, *each;
    double began_s = now_s();
    int problem = getaddrinfo(name, NULL, &hints, &found);
    printf("%.6f %.3f %s ", began_s, (now_s() - began_s) * 1e3, name);
    if (problem) {
        printf("error %s\n", gai_strerror(problem));
        return;
    }
    printf("ok");
    for (each = found; each; each = each->ai_next) {
        char text[INET6_ADDRSTRLEN];
        const void *address = each->ai_family == AF_INET
            ? (const void *)&((struct sockaddr_in *)each->ai_addr)->sin_addr
            : (const void *)&((struct sockaddr_in6 *)each->ai_addr)->sin6_addr;
        printf(" %s", inet_ntop(each->ai_family, address, text, sizeof text));
    }
    printf("\n");
    freeaddrinfo(found);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    double every_s = atof(argv[1]) / 1e3, due_s = now_s();
    long times = atol(argv[2]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (long number = 0; !times || number < times; number++) {
        look_up(argv[3 + number % (argc - 3)]);
        due_s += every_s;
        double wait_s = due_s - now_s();
        if (wait_s < 0)
            due_s = now_s();
        else {
            struct timespec wait = {(time_t)wait_s, (long)((wait_s - (time_t)wait_s) * 1e9)};
            nanosleep(&wait, NULL);
        }
    }
    return 0;
}
