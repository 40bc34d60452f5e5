/* Questions at a steady rate, whatever comes back, and the fate of each of them.
 *
 *     steady udp|tcp HOST PORT RATE SECONDS SOCKETS TURN TIMEOUT_MS OUT NAME...
 *
 * Asks for A of the names in turn; a `*` in a name becomes a number of its own each time, so nobody can know it.
 * UDP: SOCKETS sockets in turn, each replaced by a new one (a new source port) after TURN questions; the old one
 * goes on listening until all its questions have ended. TCP: SOCKETS connections that stay open and carry several
 * questions at a time; one that the server has closed is opened again for the next question. Questions that met the
 * end of a connection in order (FIN) are asked again, once, on the next one, as RFC 7766 section 6.2.4 tells clients.
 *
 * SIGTERM ends the asking early; what is in the air is waited for. OUT gets one line for each question, in order:
 *
 *     MONOTONIC_S  TAKEN_US  FATE  RCODE  ADDRESS  AGAIN
 *
 * FATE is `answered`, `lost` (nothing within TIMEOUT_MS), `refused` (the socket said ECONNREFUSED while this was its
 * newest question; a late answer is not waited for), `reset` (its connection was reset) or `closed` (the one that it
 * was asked on again was closed as well). ADDRESS is the last four
 * bytes of the answer, which for a reply without EDNS are its last A record; AGAIN is 1 for a question that was asked
 * twice. Standard output gets `asking` at the start.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <netinet/tcp.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 4096, EVENTS = 64, WAITS = 0, ANSWERED, LOST, REFUSED, RESET, CLOSED };
static const char *const fates[] = {"waits", "answered", "lost", "refused", "reset", "closed"};

typedef struct { double sent_s; uint32_t taken_us; uint16_t id; uint8_t fate, rcode, again; uint32_t address; int conn; } question;
typedef struct { int fd; int asked, open; uint32_t newest; uint8_t in[2 * SIZE]; size_t got; } conn;

static question *questions;
static uint32_t sent, total, oldest;
static uint32_t of_id[65536];
static conn *conns;
static int conn_count, epoll_fd, tcp;
static struct addrinfo *server;
static volatile sig_atomic_t ending;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void end(int number)
{
    (void)number;
    ending = 1;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void settle(question *asked, int fate)
{
    if (asked->fate != WAITS)
        return;
    asked->fate = fate;
    asked->taken_us = (now_s() - asked->sent_s) * 1e6;
    conns[asked->conn].open--;
}

/* Give every question that still waits on this connection the same fate. */
static void settle_all(int number, int fate)
{
    for (uint32_t i = oldest; i < sent && conns[number].open > 0; i++)
        if (questions[i].conn == number)
            settle(&questions[i], fate);
}

static const char **names;
static int name_count;
static void put(uint32_t index, int number);

/* The server has ended this connection in order: ask what still waits on it anew. */
static void ask_again(int number)
{
    close(conns[number].fd);
    conns[number].fd = -1;
    uint32_t last = sent;
    for (uint32_t i = oldest; i < last; i++)
        if (questions[i].conn == number && questions[i].fate == WAITS) {
            conns[number].open--;
            if (questions[i].again++) {
                conns[number].open++;
                settle(&questions[i], CLOSED);
            } else
                put(i, number);
        }
}

static void hang_up(int number, int fate)
{
    if (conns[number].fd < 0)
        return;
    close(conns[number].fd);
    conns[number].fd = -1;
    settle_all(number, fate);
    conns[number].got = 0;
}

static void dial(int number)
{
    int yes = 1, size = 1 << 20;
    conn *made = &conns[number];
    made->asked = 0;
    made->got = 0;
    made->fd = socket(server->ai_family, tcp ? SOCK_STREAM : SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (made->fd < 0)
        fail("socket");
    /* Over TCP this blocks for one round trip in a lab where that is some microseconds; a dead server is a time-out. */
    struct timeval patience = {1, 0};
    setsockopt(made->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(made->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (tcp)
        setsockopt(made->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (connect(made->fd, server->ai_addr, server->ai_addrlen) < 0) {
        close(made->fd);
        made->fd = -1;
        return;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, made->fd, &event) < 0)
        fail("epoll_ctl");
}

static size_t write_question(uint8_t *message, uint16_t id, const char *name, uint32_t number)
{
    static const uint8_t tail[] = {0, 0, 1, 0, 1};
    uint8_t *at = message + 12;
    char text[256], *label, *rest = text;
    const char *star = strchr(name, '*');
    memcpy(message, (uint8_t[]){id >> 8, id & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, 12);
    if (star)
        snprintf(text, sizeof text, "%.*s%d-%u%s", (int)(star - name), name, getpid(), number, star + 1);
    else
        snprintf(text, sizeof text, "%s", name);
    while ((label = strsep(&rest, ".")))
        if (*label) {
            *at++ = strlen(label);
            at = mempcpy(at, label, strlen(label));
        }
    return (uint8_t *)mempcpy(at, tail, sizeof tail) - message;
}

/* UDP: the connection to ask from; a used-up socket is replaced, in a place whose questions have all ended. */
static int choose(int sockets, int turn)
{
    static int *current;
    if (!current) {
        current = malloc(sockets * sizeof *current);
        for (int i = 0; i < sockets; i++)
            current[i] = -1;
    }
    int at = sent % sockets;
    if (tcp)
        return at;
    if (current[at] >= 0 && conns[current[at]].asked < turn)
        return current[at];
    for (int i = 0, place = sent % conn_count; i < conn_count; i++, place = (place + 1) % conn_count) {
        int used_up = conns[place].fd >= 0 && conns[place].asked >= turn && conns[place].open == 0;
        if (used_up)
            hang_up(place, LOST);
        if (conns[place].fd < 0)
            return current[at] = place;
    }
    return current[at] >= 0 ? current[at] : 0;
}

static void ask(int number)
{
    questions[sent] = (question){.sent_s = now_s(), .id = sent & 65535, .conn = number};
    put(sent++, number);
}

static void put(uint32_t index, int number)
{
    uint8_t message[SIZE];
    question *asked = &questions[index];
    conn *from = &conns[number];
    if (from->fd < 0)
        dial(number);
    from->open++;
    from->asked++;
    from->newest = index;
    of_id[asked->id] = index;
    size_t size = write_question(message + 2, asked->id, names[index % name_count], index);
    message[0] = size >> 8;
    message[1] = size & 255;
    if (from->fd < 0) {
        settle(asked, REFUSED);
        return;
    }
    ssize_t gone = tcp ? send(from->fd, message, size + 2, MSG_NOSIGNAL) : send(from->fd, message + 2, size, 0);
    if (gone >= 0)
        return;
    if (tcp)
        hang_up(number, RESET);
    else if (send(from->fd, message + 2, size, 0) < 0) /* the first error belongs to an earlier question */
        settle(asked, REFUSED);
}

static void land(const uint8_t *answer, size_t size)
{
    if (size < 12)
        return;
    question *asked = &questions[of_id[answer[0] << 8 | answer[1]]];
    if (asked->fate != WAITS || asked->id != (answer[0] << 8 | answer[1]))
        return;
    asked->rcode = answer[3] & 15;
    if (answer[7])
        memcpy(&asked->address, answer + size - 4, 4);
    settle(asked, ANSWERED);
}

static void take(int number)
{
    conn *from = &conns[number];
    while (from->fd >= 0) {
        ssize_t got = recv(from->fd, from->in + from->got, sizeof from->in - from->got, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (!tcp) {
            if (got < 0)
                settle(&questions[from->newest], REFUSED);
            else
                land(from->in, got);
            continue;
        }
        if (got == 0) {
            ask_again(number);
            return;
        }
        if (got < 0) {
            hang_up(number, RESET);
            return;
        }
        from->got += got;
        size_t at = 0, size;
        while (from->got - at >= 2 && from->got - at >= 2 + (size = from->in[at] << 8 | from->in[at + 1])) {
            land(from->in + at + 2, size);
            at += 2 + size;
        }
        memmove(from->in, from->in + at, from->got -= at);
    }
}

static void give_up(double before_s)
{
    while (oldest < sent && (questions[oldest].fate != WAITS || questions[oldest].sent_s < before_s))
        settle(&questions[oldest++], LOST);
}

static void wait_until(double until_s)
{
    struct epoll_event events[EVENTS];
    double wait_s = until_s - now_s();
    struct timespec wait = {0, wait_s > 0.01 ? 10000000 : wait_s > 0 ? (long)(wait_s * 1e9) : 0};
    int ready = epoll_pwait2(epoll_fd, events, EVENTS, &wait, NULL);
    for (int i = 0; i < ready; i++)
        take(events[i].data.u32);
}

int main(int argc, char **argv)
{
    if (argc < 11)
        return 2;
    tcp = !strcmp(argv[1], "tcp");
    names = (const char **)argv + 10;
    name_count = argc - 10;
    double rate = atof(argv[4]), timeout_s = atof(argv[8]) / 1e3;
    int sockets = atoi(argv[6]), turn = atoi(argv[7]);
    struct addrinfo hints = {.ai_socktype = tcp ? SOCK_STREAM : SOCK_DGRAM, .ai_flags = AI_NUMERICHOST};
    if (getaddrinfo(argv[2], argv[3], &hints, &server))
        return 2;
    total = rate * atof(argv[5]);
    conn_count = tcp ? sockets : 16 * sockets;
    conns = calloc(conn_count, sizeof *conns);
    questions = calloc(total, sizeof *questions);
    epoll_fd = epoll_create1(0);
    FILE *out = fopen(argv[9], "w");
    if (!conns || !questions || !out)
        fail(argv[9]);
    for (int i = 0; i < conn_count; i++)
        conns[i].fd = -1;
    signal(SIGTERM, end);
    puts("asking");
    fflush(stdout);
    double begun_s = now_s();
    while (!ending && sent < total) {
        double due_s = begun_s + sent / rate;
        if (now_s() >= due_s)
            ask(choose(sockets, turn));
        else
            wait_until(due_s);
        if (sent % 16 == 0)
            wait_until(0);
        give_up(now_s() - timeout_s);
    }
    while (oldest < sent) {
        wait_until(now_s() + 0.01);
        give_up(now_s() - timeout_s);
    }
    for (uint32_t i = 0; i < sent; i++) {
        char text[INET_ADDRSTRLEN];
        question *each = &questions[i];
        fprintf(out, "%.6f %u %s %u %s %u\n", each->sent_s, each->taken_us, fates[each->fate], each->rcode,
                inet_ntop(AF_INET, &each->address, text, sizeof text), each->again);
    }
    return fclose(out) ? 1 : 0;
}
