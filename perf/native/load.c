/* A small load generator for what dnsperf does not do: an open loop at a steady rate with percentiles, clients
 * with many addresses, one TCP connection for each question, and a look into every answer.
 *
 *     load udp|tcp HOST PORT FILE [sockets=N] [source=IP] [sources=N] [window=N] [rate=N] [burst=N]
 *                                 [repeat=N] [limit_s=N] [timeout_ms=N]
 *
 * FILE holds questions: size of the message (2 bytes, network order), expected rcode (1), size of a needle (1),
 * the message, the needle: bytes that a right answer contains. Its questions are asked in order, `repeat` times.
 *
 *   window     closed loop: so many in the air, as fast as answers come
 *   rate       open loop: questions go out at times drawn beforehand (exponential gaps with a fixed seed, so equal
 *              for every server), whether or not answers come; `burst` at a time from one socket, as A and AAAA
 *   sources    sockets are bound in turn to so many addresses, from `source` upwards
 *
 * Latency is from just before the send to the kernel's stamp on the answer (open loop), so how soon this program
 * wakes up is not in it. `late` is how long after its time a question went out: this program's own limit.
 * An answer counts as wrong when its question, rcode or needle differs. Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct { uint16_t size; uint8_t rcode, needle_size; const uint8_t *message, *needle; } question;
typedef struct { uint32_t question; uint16_t id; uint8_t waits; int64_t sent_ns; } slot;
typedef struct { uint32_t socket, slot; int64_t sent_ns; } flight;
typedef struct { int fd; uint16_t next_id; slot *slots; uint8_t *in; uint32_t got; } client;

enum { BATCH = 32, SIZE = 4096, NS = 1000000000 };

static question *questions;
static uint32_t count, slots_each;
static client *clients;
static uint64_t sent, answered, expired, lost, wrong, stray, refused, rcodes[16], latencies, lates;
static uint32_t *latency_ns, *late_ns;
static uint64_t total;
static int in_air, epoll_fd;
static flight *flights;
static uint64_t first_flight, next_flight, flight_mask;
static struct sockaddr_in server;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now); /* the clock of the kernel's stamps */
    return now.tv_sec * (int64_t)NS + now.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static long option(int argc, char **argv, const char *name, long otherwise)
{
    size_t size = strlen(name);
    for (int i = 5; i < argc; i++)
        if (!strncmp(argv[i], name, size) && argv[i][size] == '=')
            return atol(argv[i] + size + 1);
    return otherwise;
}

static const char *word(int argc, char **argv, const char *name, const char *otherwise)
{
    size_t size = strlen(name);
    for (int i = 5; i < argc; i++)
        if (!strncmp(argv[i], name, size) && argv[i][size] == '=')
            return argv[i] + size + 1;
    return otherwise;
}

static void read_questions(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        fail(path);
    long size = ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(size + 1);
    if (!bytes || fread(bytes, 1, size, file) != (size_t)size)
        fail(path);
    fclose(file);
    for (int pass = 0; pass < 2; pass++) {
        count = 0;
        for (long at = 0; at + 4 <= size; count++) {
            uint16_t length = bytes[at] << 8 | bytes[at + 1];
            uint8_t needle = bytes[at + 3];
            if (pass)
                questions[count] =
                    (question){length, bytes[at + 2], needle, bytes + at + 4, bytes + at + 4 + length};
            at += 4 + length + needle;
        }
        if (!pass && !(questions = malloc((count + 1) * sizeof *questions)))
            fail("questions");
    }
}

/* End of the question section of a message with one question, 0 when there is none. */
static uint32_t question_end(const uint8_t *message, uint32_t size)
{
    uint32_t at = 12;
    while (at < size && message[at])
        at += message[at] + 1;
    return at + 5 <= size ? at + 5 : 0;
}

/* Whether the first record of an answer has TTL 0, which no zone of ours has: it has outlived its TTL. */
static int is_expired(const uint8_t *answer, uint32_t at, uint32_t size)
{
    if (!(answer[6] | answer[7] | answer[8] | answer[9]))
        return 0;
    while (at < size && answer[at] && answer[at] < 0xC0)
        at += answer[at] + 1;
    at += at < size && answer[at] ? 2 : 1;
    return at + 8 <= size && !(answer[at + 4] | answer[at + 5] | answer[at + 6] | answer[at + 7]);
}

static void judge(const question *asked, const uint8_t *answer, uint32_t size)
{
    uint32_t end = question_end(asked->message, asked->size);
    rcodes[answer[3] & 15]++;
    answered++;
    if (size < end || !(answer[2] & 0x80) || memcmp(answer + 12, asked->message + 12, end - 12) ||
        (answer[3] & 15) != asked->rcode ||
        (asked->needle_size && !memmem(answer + end, size - end, asked->needle, asked->needle_size)))
        wrong++;
    else
        expired += is_expired(answer, end, size);
}

static void note_latency(int64_t taken_ns)
{
    if (latencies < total)
        latency_ns[latencies++] = taken_ns < 0 ? 0 : taken_ns > UINT32_MAX ? UINT32_MAX : taken_ns;
}

static int open_client(client *made, int kind, const char *source, long number, long sources)
{
    int yes = 1, fd = socket(AF_INET, kind | SOCK_NONBLOCK, 0);
    struct sockaddr_in own = {.sin_family = AF_INET};
    if (fd < 0)
        fail("socket");
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (source) {
        inet_aton(source, &own.sin_addr);
        own.sin_addr.s_addr = htonl(ntohl(own.sin_addr.s_addr) + number % sources);
        if (bind(fd, (struct sockaddr *)&own, sizeof own) < 0)
            fail("bind");
    }
    made->fd = fd;
    return connect(fd, (struct sockaddr *)&server, sizeof server) < 0 ? errno : 0;
}

static void watch(uint32_t number, uint32_t events, int how)
{
    struct epoll_event event = {.events = events, .data.u32 = number};
    if (epoll_ctl(epoll_fd, how, clients[number].fd, &event) < 0)
        fail("epoll_ctl");
}

static void fly(uint32_t socket, uint32_t place, int64_t at_ns)
{
    flights[next_flight++ & flight_mask] = (flight){socket, place, at_ns};
    in_air++;
}

/* Ask question `number` from client `who`. A place whose last question still waits is given up as lost. */
static void ask(uint32_t number, uint32_t who)
{
    client *from = &clients[who];
    const question *asked = &questions[number % count];
    uint8_t message[SIZE];
    uint16_t id = from->next_id++;
    slot *place = &from->slots[id % slots_each];
    memcpy(message, asked->message, asked->size);
    message[0] = id >> 8;
    message[1] = id & 255;
    if (place->waits) {
        lost++;
        in_air--;
    }
    *place = (slot){number % count, id, 1, now_ns()};
    fly(who, id % slots_each, place->sent_ns);
    sent++;
    if (send(from->fd, message, asked->size, 0) < 0)
        refused++; /* an ICMP error of an earlier one, or no room: this question is lost by time-out */
}

/* Read everything that has arrived for one client. */
static void take(client *from, int stamped)
{
    static uint8_t bytes[BATCH][SIZE], controls[BATCH][64];
    struct iovec parts[BATCH];
    struct mmsghdr messages[BATCH];
    int got;
    do {
        for (int i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){bytes[i], SIZE};
            messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1,
                .msg_control = stamped ? controls[i] : NULL, .msg_controllen = stamped ? 64 : 0};
        }
        got = recvmmsg(from->fd, messages, BATCH, 0, NULL);
        int64_t read_ns = now_ns();
        for (int i = 0; i < got; i++) {
            uint16_t id = bytes[i][0] << 8 | bytes[i][1];
            slot *place = &from->slots[id % slots_each];
            if (messages[i].msg_len < 12 || !place->waits || place->id != id) {
                stray++;
                continue;
            }
            struct cmsghdr *extra = stamped ? CMSG_FIRSTHDR(&messages[i].msg_hdr) : NULL;
            int64_t at_ns = read_ns;
            if (extra && extra->cmsg_type == SCM_TIMESTAMPNS) {
                struct timespec stamp;
                memcpy(&stamp, CMSG_DATA(extra), sizeof stamp);
                at_ns = stamp.tv_sec * (int64_t)NS + stamp.tv_nsec;
            }
            place->waits = 0;
            in_air--;
            note_latency(at_ns - place->sent_ns);
            judge(&questions[place->question], bytes[i], messages[i].msg_len);
        }
    } while (got == BATCH);
}

/* Give up what has waited too long; flights are in the order of their start. */
static void give_up(int64_t before_ns, int tcp)
{
    while (first_flight < next_flight) {
        flight *oldest = &flights[first_flight & flight_mask];
        slot *place = &clients[oldest->socket].slots[oldest->slot];
        int waits = place->waits && place->sent_ns == oldest->sent_ns;
        if (waits && oldest->sent_ns > before_ns)
            return;
        if (waits) {
            place->waits = 0;
            in_air--;
            lost++;
            if (tcp)
                close(clients[oldest->socket].fd);
        }
        first_flight++;
    }
}

static void wait_for(struct epoll_event *events, int *ready, int64_t wait_ns)
{
    struct timespec wait = {wait_ns / NS, wait_ns % NS};
    *ready = epoll_pwait2(epoll_fd, events, BATCH, wait_ns < 0 ? &(struct timespec){0, 0} : &wait, NULL);
    if (*ready < 0 && errno != EINTR)
        fail("epoll_pwait2");
}

static void run_udp(long sockets, long window, double rate, long burst, int64_t limit_ns, int64_t timeout_ns)
{
    struct epoll_event events[BATCH];
    int64_t begun_ns = now_ns(), due_ns = begun_ns, now = begun_ns;
    uint32_t who = 0;
    int ready;
    srand48(1);
    while ((sent < total || in_air > 0) && now - begun_ns < limit_ns) {
        if (rate > 0)
            while (sent < total && (now = now_ns()) >= due_ns) {
                late_ns[lates++] = now - due_ns > UINT32_MAX ? UINT32_MAX : now - due_ns;
                for (long i = 0; i < burst && sent < total; i++)
                    ask(sent, who);
                who = (who + 1) % sockets;
                due_ns += -log(1 - drand48()) * NS * burst / rate;
            }
        else
            for (; sent < total && in_air < window; who = (who + 1) % sockets)
                ask(sent, who);
        now = now_ns();
        int64_t wait_ns = rate > 0 && sent < total ? due_ns - now : 10000000;
        wait_for(events, &ready, wait_ns > 100000000 ? 100000000 : wait_ns);
        for (int i = 0; i < ready; i++)
            take(&clients[events[i].data.u32], rate > 0);
        give_up(now_ns() - timeout_ns, 0);
    }
    lost += in_air;
}

/* One event of a connection; returns 1 when it is over, whatever its end. */
static int talk(client *with, uint32_t happened)
{
    slot *place = &with->slots[0];
    const question *asked = &questions[place->question];
    if (happened & EPOLLOUT) {
        uint8_t framed[SIZE] = {asked->size >> 8, asked->size & 255};
        memcpy(framed + 2, asked->message, asked->size);
        if (send(with->fd, framed, asked->size + 2, MSG_NOSIGNAL) < 0) {
            lost++;
            return 1;
        }
        watch(with - clients, EPOLLIN, EPOLL_CTL_MOD);
        return 0;
    }
    ssize_t got = recv(with->fd, with->in + with->got, SIZE - with->got, 0);
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0) {
        lost++;
        return 1;
    }
    with->got += got;
    if (with->got < 14 || with->got < 2u + (with->in[0] << 8 | with->in[1]))
        return 0;
    note_latency(now_ns() - place->sent_ns);
    judge(asked, with->in + 2, with->got - 2);
    return 1;
}

static void run_tcp(long window, const char *source, long sources, int64_t limit_ns, int64_t timeout_ns)
{
    struct epoll_event events[BATCH];
    int64_t begun_ns = now_ns();
    int ready;
    while ((sent < total || in_air > 0) && now_ns() - begun_ns < limit_ns) {
        for (long who = 0; who < window && sent < total && in_air < window; who++) {
            client *made = &clients[who];
            if (made->slots[0].waits)
                continue;
            int64_t now = now_ns();
            int problem = open_client(made, SOCK_STREAM, source, sent, sources);
            made->got = 0;
            made->slots[0] = (slot){sent++ % count, 0, 1, now};
            if (problem && problem != EINPROGRESS) {
                made->slots[0].waits = 0;
                lost++;
                close(made->fd);
                continue;
            }
            fly(who, 0, now);
            watch(who, EPOLLOUT, EPOLL_CTL_ADD);
        }
        wait_for(events, &ready, 10000000);
        for (int i = 0; i < ready; i++) {
            client *with = &clients[events[i].data.u32];
            if (with->slots[0].waits && talk(with, events[i].events)) {
                close(with->fd);
                with->slots[0].waits = 0;
                in_air--;
            }
        }
        give_up(now_ns() - timeout_ns, 1);
    }
    lost += in_air;
}

static int by_size(const void *one, const void *other)
{
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return a < b ? -1 : a > b;
}

static double part_us(const uint32_t *sorted, uint64_t number, double share)
{
    return number ? sorted[(uint64_t)((number - 1) * share)] / 1000.0 : 0;
}

static void print(double seconds)
{
    struct rusage own;
    getrusage(RUSAGE_SELF, &own);
    double cpu_s = own.ru_utime.tv_sec + own.ru_stime.tv_sec + (own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6;
    qsort(latency_ns, latencies, sizeof *latency_ns, by_size);
    qsort(late_ns, lates, sizeof *late_ns, by_size);
    printf("{\"sent\": %lu, \"answered\": %lu, \"lost\": %lu, \"wrong\": %lu, \"stray\": %lu, \"refused\": %lu, ",
           sent, answered, lost, wrong, stray, refused);
    printf("\"expired\": %lu, ", expired);
    printf("\"seconds\": %.6f, \"cpu_s\": %.6f, \"rcodes\": {", seconds, cpu_s);
    for (int code = 0, first = 1; code < 16; code++)
        if (rcodes[code]) {
            printf("%s\"%d\": %lu", first ? "" : ", ", code, rcodes[code]);
            first = 0;
        }
    printf("}, \"latency_us\": {\"p50\": %.1f, \"p99\": %.1f, \"p99.9\": %.1f, \"max\": %.1f}, ",
           part_us(latency_ns, latencies, .5), part_us(latency_ns, latencies, .99),
           part_us(latency_ns, latencies, .999), part_us(latency_ns, latencies, 1));
    printf("\"late_us\": {\"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f}}\n", part_us(late_ns, lates, .5),
           part_us(late_ns, lates, .99), part_us(late_ns, lates, 1));
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    int tcp = !strcmp(argv[1], "tcp"), yes = 1, size = 4 * 1024 * 1024;
    long window = option(argc, argv, "window", 100), sockets = tcp ? window : option(argc, argv, "sockets", 1);
    long sources = option(argc, argv, "sources", 1), rate = option(argc, argv, "rate", 0);
    const char *source = word(argc, argv, "source", NULL);
    int64_t limit_ns = option(argc, argv, "limit_s", 60) * (int64_t)NS;
    int64_t timeout_ns = option(argc, argv, "timeout_ms", 5000) * (int64_t)1000000;

    prctl(PR_SET_TIMERSLACK, 1UL);
    read_questions(argv[4]);
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
    if (!count || !inet_aton(argv[2], &server.sin_addr))
        return 2;
    total = (uint64_t)count * option(argc, argv, "repeat", 1);
    latency_ns = malloc((total + 1) * sizeof *latency_ns);
    late_ns = malloc((total + 1) * sizeof *late_ns);
    for (flight_mask = 1; flight_mask < total + 1; flight_mask *= 2)
        ;
    flights = malloc(flight_mask-- * sizeof *flights);
    for (slots_each = tcp ? 1 : 65536; slots_each > 256 && slots_each * sockets > 262144; slots_each /= 2)
        ;
    clients = calloc(sockets, sizeof *clients);
    epoll_fd = epoll_create1(0);
    if (!latency_ns || !late_ns || !flights || !clients)
        fail("memory");
    for (long i = 0; i < sockets; i++) {
        clients[i].slots = calloc(slots_each, sizeof(slot));
        clients[i].in = tcp ? malloc(SIZE) : NULL;
        if (tcp)
            continue;
        if (open_client(&clients[i], SOCK_DGRAM, source, i, sources))
            fail("connect");
        if (rate)
            setsockopt(clients[i].fd, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes);
        setsockopt(clients[i].fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        watch(i, EPOLLIN, EPOLL_CTL_ADD);
    }
    int64_t begun_ns = now_ns();
    if (tcp)
        run_tcp(window, source, sources, limit_ns, timeout_ns);
    else
        run_udp(sockets, window, rate, option(argc, argv, "burst", 1), limit_ns, timeout_ns);
    print((now_ns() - begun_ns) / (double)NS);
    return 0;
}
