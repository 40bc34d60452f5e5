# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled lane: `UdpListener.drain` in C, one system call to receive a batch and one to send it.

It works on the same packet cache, lives and series as the Python lane (`accept.udp`), so both pass the
same tests and a reload or a scrape cannot tell them apart. A query whose bytes are in the packet cache costs no
Python call: look up, bring the TTLs to now in place, count, and put the body behind the query's own ID.

What a hit costs beside the kernel is memory that is not in the processor's caches. So a batch is looked up in
waves: each asks for what the next one reads (`_look_up`), and the packet cache is a `Table` of ours, whose slots say
with one read whether a query is known, where a dict takes two and makes an object for the key.

So a `Rendering` of this lane is one piece of memory, key and body behind its numbers, and `Life` and `Series` are numbers
in C. A hit reads four places: slot, rendering, life, series. At a thousand questions a second nothing is in the caches by
the next one, so what a batch touches beside that is few: no attribute of a Python object, no number that is one.

Longer than 300 lines because it is one module with its C declarations, 80 lines of them.

`client` of a miss is (address bytes, socket address, control message): raw, and text only where somebody asks.
"""

import os
import time

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, Py_XINCREF, PyObject, PyTypeObject
from libc.errno cimport EAGAIN, EINTR, errno
from libc.math cimport floor
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from resolver.accept.slots cimport offset_of, slot
from resolver.cache.life cimport Life
from resolver.report.counters cimport Series

from resolver.accept.packets import PacketCache
from resolver.report.labels import TIME_BUCKETS_S

cdef extern from "Python.h":
    PyObject *PyObject_Init(PyObject *, PyTypeObject *)
    void *PyObject_Malloc(size_t)

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    struct sockaddr_storage:
        pass
    cmsghdr *CMSG_FIRSTHDR(msghdr *)
    cmsghdr *CMSG_NXTHDR(msghdr *, cmsghdr *)
    unsigned char *CMSG_DATA(cmsghdr *)
    int recvmmsg(int, mmsghdr *, unsigned int, int, void *)
    int sendmmsg(int, mmsghdr *, unsigned int, int)
    Py_ssize_t sendmsg(int, msghdr *, int)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL
    int AF_INET
    int AF_INET6

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int, timespec *)
    int CLOCK_MONOTONIC

cdef extern from "<netinet/in.h>" nogil:
    int IPPROTO_IP
    int IPPROTO_IPV6
    int IP_PKTINFO
    int IPV6_PKTINFO

cdef extern from *:
    """
    static inline uint64_t lane_mix(uint64_t a, uint64_t b)
    {
        __uint128_t product = (__uint128_t)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    """
    uint64_t lane_mix(uint64_t, uint64_t) noexcept nogil

cdef extern from *:
    """
    #include <malloc.h>
    static inline void lane_one_heap(void)
    {
    #ifdef M_ARENA_MAX /* glibc */
        mallopt(M_ARENA_MAX, 1);
    #endif
    }
    """
    void lane_one_heap()

cdef extern from *:
    void __builtin_prefetch(const void *) noexcept nogil

cdef enum:
    CACHE_LINE_BYTES = 64
    QUERY_MAX_BYTES = 4096
    CONTROL_BYTES = 64  # CMSG_SPACE of in6_pktinfo is 40
    MAX_TTL_S = 0x7FFFFFFF
    BATCHES_MAX = 4
    SEVERAL = 2
    PART_BITS = 6
    PARTS = 64  # each grows by itself: of a million renderings, 16,000 move in one go, in 0.5 ms
    PART_SLOTS_MIN = 8
    BODY_MAX_BYTES = 0xFFFF
    TABLE_OVERHEAD_BYTES = 150  # of a rendering: 88 of numbers, 24 to 48 of the table, 8 or so that malloc rounds up

cdef double FIRST_BUCKET_S = TIME_BUCKETS_S[0]


cdef Py_ssize_t P_TABLE = offset_of(PacketCache, "table")


@cython.final
cdef class Rendering:
    """`packets.Rendering` in one piece of memory: its numbers, where its TTLs stand, its key, its body.

    Made by `Table.render` only. Nothing but `follow` can be set from Python.
    """

    cdef PyObject *life  # owned, a compiled Life
    cdef PyObject *series  # owned, a Series
    cdef PyObject *next  # owned, a Rendering: the `follow` of a ring; NULL outside of one
    cdef readonly double stored_s
    cdef readonly double next_s
    cdef readonly long long aged_s
    cdef readonly long long size_bytes
    cdef readonly int floor_s
    cdef uint32_t ttls  # behind the object: so many offsets in the body, 16 bits each, then key, then body
    cdef uint32_t key_bytes
    cdef uint32_t body_bytes

    def __cinit__(self):
        raise TypeError("Table.render makes renderings")

    def __dealloc__(self):
        Py_XDECREF(self.life)
        Py_XDECREF(self.series)
        Py_XDECREF(self.next)

    @property
    def life(self):
        return <object> self.life

    @property
    def series(self):
        return <object> self.series

    @property
    def follow(self):
        return None if self.next == NULL else <object> self.next

    @follow.setter
    def follow(self, Rendering value):
        cdef PyObject *old = self.next
        Py_XINCREF(NULL if value is None else <PyObject *> value)
        self.next = NULL if value is None else <PyObject *> value
        Py_XDECREF(old)

    @property
    def key(self):
        return PyBytes_FromStringAndSize(<char *> _key(<PyObject *> self), self.key_bytes)

    @property
    def body(self):
        return PyBytes_FromStringAndSize(<char *> _body(<PyObject *> self), self.body_bytes)

    @property
    def ttl_offsets(self):
        cdef uint16_t *offsets = _offsets(<PyObject *> self)
        return tuple([offsets[i] + 2 for i in range(self.ttls)])


cdef Py_ssize_t RENDERING_BYTES = (<PyTypeObject *> Rendering).tp_basicsize


cdef inline uint16_t *_offsets(PyObject *kept) noexcept:
    return <uint16_t *> ((<char *> kept) + RENDERING_BYTES)


cdef inline uint8_t *_key(PyObject *kept) noexcept:
    return <uint8_t *> (_offsets(kept) + (<Rendering> kept).ttls)


cdef inline uint8_t *_body(PyObject *kept) noexcept:
    return _key(kept) + (<Rendering> kept).key_bytes


cdef void _age(Rendering kept, Life life, double now_s) noexcept:
    """Bring the TTLs of a rendering to `now_s`: `PacketCache.age` in C."""
    cdef uint16_t *offsets = _offsets(<PyObject *> kept)
    cdef uint8_t *body = _body(<PyObject *> kept)
    cdef uint8_t *data
    cdef long long elapsed_s = <long long> floor(now_s - life.stored_s)
    cdef long long passed_s = elapsed_s - kept.aged_s
    cdef long long ttl_s
    cdef uint32_t i
    for i in range(kept.ttls):
        data = body + offsets[i]
        ttl_s = (<long long> data[0] << 24) | (data[1] << 16) | (data[2] << 8) | data[3]
        if ttl_s > MAX_TTL_S:
            ttl_s = 0
        ttl_s -= passed_s
        if ttl_s < kept.floor_s:
            ttl_s = kept.floor_s
        data[0] = <uint8_t> (ttl_s >> 24)
        data[1] = <uint8_t> (ttl_s >> 16)
        data[2] = <uint8_t> (ttl_s >> 8)
        data[3] = <uint8_t> ttl_s
    kept.aged_s = elapsed_s
    kept.stored_s = life.stored_s
    kept.next_s = life.stored_s + elapsed_s + 1
    if now_s - life.used_s > life.gap_s:
        life.uses = 0
    life.used_s = now_s


cdef struct Slot:
    uint64_t hash
    PyObject *value  # owned, a Rendering, which has the key; NULL: the slot is empty


cdef struct Part:
    Slot *slots  # NULL before the first key
    uint64_t mask
    uint64_t used


cdef class Table:
    """Renderings by query bytes: as much of a `packets.DictTable` as a packet cache uses.

    A rendering has its key in itself: a slot is a hash and a rendering.
    Open addressing with linear probing; a key that goes lets those behind it move up, so a slot is full or empty.
    The hash is keyed with 16 random bytes: who asks cannot aim at one slot.
    """

    cdef Part parts[PARTS]
    cdef Py_ssize_t used
    cdef uint64_t seeds[2]
    cdef uint64_t popping  # where `popitem` goes on: part, and slot in it
    cdef uint64_t popping_slot
    cdef uint64_t walking  # where `dead` goes on: part, and slot in it
    cdef uint64_t walking_slot

    overhead_bytes = TABLE_OVERHEAD_BYTES

    def __cinit__(self):
        cdef bytes drawn = os.urandom(16)
        memcpy(self.seeds, PyBytes_AS_STRING(drawn), 16)
        memset(self.parts, 0, sizeof(self.parts))

    def __dealloc__(self):
        cdef int number
        cdef uint64_t i
        cdef Part *part
        for number in range(PARTS):
            part = &self.parts[number]
            if part.slots != NULL:
                for i in range(part.mask + 1):
                    Py_XDECREF(part.slots[i].value)
                PyMem_Free(part.slots)

    def __len__(self):
        return self.used

    def get(self, bytes key, default=None):
        """Return the value of `key`, or `default`."""
        cdef Slot *slot = self._find_key(key)
        return default if slot == NULL else <object> slot.value

    def __getitem__(self, bytes key):
        cdef Slot *slot = self._find_key(key)
        if slot == NULL:
            raise KeyError(key)
        return <object> slot.value

    def __contains__(self, bytes key):
        return self._find_key(key) != NULL

    def render(
        self, bytes key not None, bytes answer not None, tuple ttl_offsets not None, long long aged_s, int floor_s,
        Life life not None, series, long long size_bytes,
    ):
        """Return a rendering for this table, not yet in it; see `packets.DictTable.render`.

        Raises ValueError for what no packet cache keeps: an answer above 64 KiB, a TTL outside of it. TypeError if
        `life` or `series` is not what a hit counts in.
        """
        cdef Py_ssize_t key_bytes = len(key)
        cdef Py_ssize_t body_bytes = len(answer) - 2
        cdef Py_ssize_t ttls = len(ttl_offsets)
        cdef Py_ssize_t offset
        cdef PyObject *piece
        cdef Rendering made
        cdef uint16_t *offsets
        if not 0 <= body_bytes <= BODY_MAX_BYTES or key_bytes > BODY_MAX_BYTES or ttls > BODY_MAX_BYTES:
            raise ValueError("too long for a rendering, or no answer")
        if type(series) is not Series:
            raise TypeError("a hit counts in a Series")
        for offset in ttl_offsets:
            if offset < 2 or offset > body_bytes - 2:
                raise ValueError("a TTL outside its answer")
        piece = <PyObject *> PyObject_Malloc(RENDERING_BYTES + 2 * ttls + key_bytes + body_bytes)
        if piece == NULL:
            raise MemoryError
        memset(piece, 0, RENDERING_BYTES)
        PyObject_Init(piece, <PyTypeObject *> Rendering)
        made = <Rendering> piece
        Py_DECREF(made)  # `made` holds the one reference
        Py_INCREF(life)
        made.life = <PyObject *> life
        Py_INCREF(series)
        made.series = <PyObject *> series
        made.stored_s = life.stored_s
        made.next_s = life.stored_s + aged_s + 1
        made.aged_s = aged_s
        made.size_bytes = size_bytes
        made.floor_s = floor_s
        made.ttls = <uint32_t> ttls
        made.key_bytes = <uint32_t> key_bytes
        made.body_bytes = <uint32_t> body_bytes
        offsets = _offsets(piece)
        for offset in ttl_offsets:
            offsets[0] = <uint16_t> (offset - 2)
            offsets += 1
        memcpy(_key(piece), PyBytes_AS_STRING(key), key_bytes)
        memcpy(_body(piece), PyBytes_AS_STRING(answer) + 2, body_bytes)
        return made

    def __setitem__(self, bytes key not None, Rendering value not None):
        cdef const uint8_t *data = <const uint8_t *> PyBytes_AS_STRING(key)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(key)
        cdef uint64_t hash = self._hash(data, size)
        cdef Slot *slot = self._find(hash, data, size)
        cdef Part *part = &self.parts[hash >> (64 - PART_BITS)]
        cdef PyObject *old
        if not _is_key(<PyObject *> value, data, size):
            raise ValueError("a rendering of another question")
        if slot != NULL:
            Py_INCREF(value)
            old = slot.value
            slot.value = <PyObject *> value
            Py_XDECREF(old)
            return
        if part.slots == NULL or 3 * (part.used + 1) > 2 * (part.mask + 1):
            self._grow(part)
        Py_INCREF(value)
        _place(part, Slot(hash, <PyObject *> value))
        part.used += 1
        self.used += 1

    def __delitem__(self, bytes key):
        cdef Slot *slot = self._find_key(key)
        if slot == NULL:
            raise KeyError(key)
        self._remove(&self.parts[slot.hash >> (64 - PART_BITS)], slot)

    def popitem(self):
        """Remove some key; return it with its value. Raises KeyError if there is none."""
        cdef Part *part
        cdef Slot *slot
        if not self.used:
            raise KeyError("a table without keys")
        while not self.parts[self.popping].used:
            self.popping = (self.popping + 1) % PARTS
            self.popping_slot = 0
        part = &self.parts[self.popping]
        while part.slots[self.popping_slot & part.mask].value == NULL:
            self.popping_slot += 1
        slot = &part.slots[self.popping_slot & part.mask]
        item = (<Rendering> slot.value).key, <object> slot.value
        self._remove(part, slot)
        return item

    def keys(self):
        """Return a list of all keys."""
        return [kept.key for kept in self.values()]

    def values(self):
        """Return a list of all values."""
        cdef list found = []
        cdef int number
        for number in range(PARTS):
            _collect(&self.parts[number], found)
        return found

    def dead(self, double now_s, Py_ssize_t number):
        """Return keys of the dead among the next `number` renderings; each call goes on where the last ended."""
        cdef list found = []
        cdef Part *part
        cdef PyObject *kept
        number = min(number, self.used)
        while number > 0:
            part = &self.parts[self.walking]
            if part.slots == NULL or self.walking_slot > part.mask:
                self.walking = (self.walking + 1) % PARTS
                self.walking_slot = 0
                continue
            kept = part.slots[self.walking_slot].value
            self.walking_slot += 1
            if kept != NULL:
                number -= 1
                if (<Life> (<Rendering> kept).life).until_s <= now_s:
                    found.append((<Rendering> kept).key)
        return found

    def __iter__(self):
        return iter(self.keys())

    cdef inline uint64_t _hash(self, const uint8_t *data, Py_ssize_t size) noexcept:
        """Mix eight bytes at a time into the product of what came before and a random number."""
        cdef uint64_t hash = self.seeds[0] ^ <uint64_t> size
        cdef uint64_t piece
        while size >= 8:
            memcpy(&piece, data, 8)
            hash = lane_mix(hash ^ piece, self.seeds[1] | 1)
            data += 8
            size -= 8
        piece = 0
        memcpy(&piece, data, size)
        return lane_mix(hash ^ piece, self.seeds[1] | 1)

    cdef inline Slot *_home(self, uint64_t hash) noexcept:
        """Return where a key with this hash would stand first; NULL where there is no key at all."""
        cdef Part *part = &self.parts[hash >> (64 - PART_BITS)]
        return NULL if part.slots == NULL else &part.slots[hash & part.mask]

    cdef Slot *_find(self, uint64_t hash, const uint8_t *data, Py_ssize_t size) noexcept:
        """Return the slot of a key, NULL if it is not there."""
        cdef Part *part = &self.parts[hash >> (64 - PART_BITS)]
        cdef uint64_t i = hash & part.mask
        cdef Slot *slot
        if part.slots == NULL:
            return NULL
        while True:
            slot = &part.slots[i]
            if slot.value == NULL:
                return NULL
            if slot.hash == hash and _is_key(slot.value, data, size):
                return slot
            i = (i + 1) & part.mask

    cdef Slot *_find_key(self, bytes key) noexcept:
        cdef const uint8_t *data = <const uint8_t *> PyBytes_AS_STRING(key)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(key)
        return self._find(self._hash(data, size), data, size)

    cdef int _grow(self, Part *part) except -1:
        cdef uint64_t slots = PART_SLOTS_MIN if part.slots == NULL else 2 * (part.mask + 1)
        cdef Part grown
        cdef uint64_t i
        grown.slots = <Slot *> PyMem_Calloc(slots, sizeof(Slot))
        if grown.slots == NULL:
            raise MemoryError
        grown.mask = slots - 1
        grown.used = part.used
        if part.slots != NULL:
            for i in range(part.mask + 1):
                if part.slots[i].value != NULL:
                    _place(&grown, part.slots[i])
            PyMem_Free(part.slots)
        part[0] = grown
        return 0

    cdef void _remove(self, Part *part, Slot *slot):
        """Empty a slot, and move up what stands behind it because that was full."""
        cdef Slot gone = slot[0]
        cdef uint64_t hole = slot - part.slots
        cdef uint64_t i = hole
        part.used -= 1
        self.used -= 1
        while True:
            i = (i + 1) & part.mask
            if part.slots[i].value == NULL:
                break
            # It may move up unless the hole is before its own first place.
            if ((i - (part.slots[i].hash & part.mask)) & part.mask) >= ((i - hole) & part.mask):
                part.slots[hole] = part.slots[i]
                hole = i
        part.slots[hole].value = NULL
        Py_XDECREF(gone.value)


cdef inline bint _is_key(PyObject *kept, const uint8_t *data, Py_ssize_t size) noexcept:
    return (<Rendering> kept).key_bytes == size and memcmp(_key(kept), data, size) == 0


cdef void _collect(Part *part, list found):
    """Append all that is in `part` to `found`."""
    cdef uint64_t i
    if part.slots != NULL:
        for i in range(part.mask + 1):
            if part.slots[i].value != NULL:
                found.append(<object> part.slots[i].value)


cdef void _place(Part *part, Slot slot) noexcept:
    """Put `slot`, whose key is not there yet, into the first empty place; there must be one."""
    cdef uint64_t i = slot.hash & part.mask
    while part.slots[i].value != NULL:
        i = (i + 1) & part.mask
    part.slots[i] = slot


cdef class Lane:
    """The batch loop of one UDP socket; holds its buffers, not the socket."""

    cdef int fd
    cdef unsigned int batch
    cdef unsigned int used  # of `messages`, by the last batch
    cdef bint wildcard
    cdef object now  # a clock of a test; None for the kernel's
    cdef object packets
    cdef readonly unsigned long long received  # datagrams
    cdef uint8_t *queries
    cdef uint8_t *control
    cdef sockaddr_storage *peers
    cdef iovec *in_parts
    cdef iovec *out_parts
    cdef mmsghdr *messages  # the batch as it came, and whom each answer goes to
    cdef mmsghdr *answers
    cdef uint64_t *hashes  # by query of the batch
    cdef PyObject **found  # by query of the batch: its rendering, borrowed; NULL for a miss
    cdef PyObject **counted  # by answer of the batch that is a hit: its series, borrowed until misses are looked at

    def __cinit__(self, int fd, unsigned int batch, bint wildcard, now, packets):
        if not isinstance(packets, PacketCache):
            raise TypeError("a lane looks up in a PacketCache")
        self.packets = packets
        self.fd = fd
        self.batch = self.used = batch
        self.wildcard = wildcard
        self.now = None if now is time.monotonic else now
        self.queries = <uint8_t *> PyMem_Calloc(batch, QUERY_MAX_BYTES)
        self.control = <uint8_t *> PyMem_Calloc(batch, CONTROL_BYTES)
        self.peers = <sockaddr_storage *> PyMem_Calloc(batch, sizeof(sockaddr_storage))
        self.in_parts = <iovec *> PyMem_Calloc(batch, sizeof(iovec))
        self.out_parts = <iovec *> PyMem_Calloc(batch, sizeof(iovec))
        self.messages = <mmsghdr *> PyMem_Calloc(batch, sizeof(mmsghdr))
        self.answers = <mmsghdr *> PyMem_Calloc(batch, sizeof(mmsghdr))
        self.hashes = <uint64_t *> PyMem_Calloc(batch, sizeof(uint64_t))
        self.found = <PyObject **> PyMem_Calloc(batch, sizeof(PyObject *))
        self.counted = <PyObject **> PyMem_Calloc(batch, sizeof(PyObject *))
        if (
            self.queries == NULL or self.control == NULL or self.peers == NULL or self.in_parts == NULL
            or self.out_parts == NULL or self.messages == NULL or self.answers == NULL
            or self.hashes == NULL or self.found == NULL or self.counted == NULL
        ):
            raise MemoryError
        cdef unsigned int i
        for i in range(batch):
            self.in_parts[i].iov_base = self.queries + i * QUERY_MAX_BYTES
            self.in_parts[i].iov_len = QUERY_MAX_BYTES
            self.messages[i].msg_hdr.msg_name = &self.peers[i]
            self.messages[i].msg_hdr.msg_iov = &self.in_parts[i]
            self.messages[i].msg_hdr.msg_iovlen = 1

    def __dealloc__(self):
        PyMem_Free(self.queries)
        PyMem_Free(self.control)
        PyMem_Free(self.peers)
        PyMem_Free(self.in_parts)
        PyMem_Free(self.out_parts)
        PyMem_Free(self.messages)
        PyMem_Free(self.answers)
        PyMem_Free(self.hashes)
        PyMem_Free(self.found)
        PyMem_Free(self.counted)

    def drain(self, listener):
        """Answer queries that came to `listener`; the loop calls this when its socket is readable.

        A batch of several hits is seldom the last, and to look again costs less than another turn of the loop: 0.06
        of those for an answer instead of 0.29 at 200,000 questions a second, 3.5 us instead of 4.0. One that had a miss
        ends it, so a turn is BATCHES_MAX batches of hits at the most, a millisecond, or one of misses.
        """
        cdef int number
        for number in range(BATCHES_MAX):
            if not self._drain_batch(listener):
                return

    cdef bint _drain_batch(self, listener) except -1:
        """Answer one batch; return whether more is likely to be there, and no misses keep the loop from others.

        Hits are sent before the first miss is looked at: they wait for nobody, and nothing that a miss does to the
        packet cache can take their bytes away. What `listener.answer` raises is a bug of ours: the others are
        answered first, then it goes on.
        """
        cdef double now_s = self._clock_s()
        cdef Table table
        cdef int count
        cdef int i
        cdef unsigned int out = 0
        cdef Py_ssize_t lost
        for i in range(<int> self.used):
            self.messages[i].msg_hdr.msg_namelen = sizeof(sockaddr_storage)
            if self.wildcard:
                self.messages[i].msg_hdr.msg_control = self.control + i * CONTROL_BYTES
                self.messages[i].msg_hdr.msg_controllen = CONTROL_BYTES
        self.used = 0
        count = recvmmsg(self.fd, self.messages, self.batch, MSG_DONTWAIT, NULL)
        if count < 0:
            if errno != EAGAIN and errno != EINTR:
                listener.send_failures += 1
            return False
        self.used = <unsigned int> count
        self.received += self.used
        table = <Table?> <object> slot(<PyObject *> self.packets, P_TABLE)
        self._look_up(table, count)
        for i in range(count):
            if self.wildcard:
                self._turn_around(&self.messages[i].msg_hdr)
            if self.found[i] != NULL:
                if self._hit(table, i, now_s, out):
                    out += 1
                else:
                    self.found[i] = NULL
        lost = self._send(out)
        if lost:
            listener.send_failures += lost
        if out:
            self._settle_durations(out, self._clock_s() - now_s)
        if <int> out < count:
            lost = self._pass_up(listener, count, now_s)
            if lost:
                listener.send_failures += lost
            return False
        return count >= SEVERAL

    def send(self, bytes response, tuple client):
        """Send one datagram to the `client` of a miss; return whether the kernel took it."""
        cdef bytes peer = client[1]
        cdef bytes control = client[2]
        cdef iovec part
        cdef msghdr message
        memset(&message, 0, sizeof(message))
        part.iov_base = PyBytes_AS_STRING(response)
        part.iov_len = PyBytes_GET_SIZE(response)
        message.msg_name = PyBytes_AS_STRING(peer)
        message.msg_namelen = <socklen_t> PyBytes_GET_SIZE(peer)
        message.msg_iov = &part
        message.msg_iovlen = 1
        if PyBytes_GET_SIZE(control):
            message.msg_control = PyBytes_AS_STRING(control)
            message.msg_controllen = PyBytes_GET_SIZE(control)
        return sendmsg(self.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0

    cdef double _clock_s(self) except -1.0:
        cdef timespec spec
        if self.now is not None:
            return self.now()
        clock_gettime(CLOCK_MONOTONIC, &spec)
        return spec.tv_sec + spec.tv_nsec * 1e-9

    cdef Py_ssize_t _pass_up(self, listener, int count, double now_s) except -1:
        """Let the pipeline answer what was not found; return how many answers were lost."""
        cdef int i
        cdef unsigned int length
        cdef unsigned int out = 0
        cdef uint8_t *query
        cdef object answer
        cdef object raised = None
        cdef list held = []  # the answers' bytes, until they are sent
        cdef Py_ssize_t lost
        for i in range(count):
            if self.found[i] != NULL:
                continue
            length = self.messages[i].msg_len
            query = self.queries + i * QUERY_MAX_BYTES
            try:
                answer = listener.answer(PyBytes_FromStringAndSize(<char *> query, length), self._client(i), now_s)
            except BaseException as error:
                raised = error
                continue
            if answer is not None:
                held.append(answer)
                self._queue(i, out, PyBytes_AS_STRING(answer), PyBytes_GET_SIZE(answer))
                out += 1
        lost = self._send(out)
        if raised is not None:
            raise raised
        return lost

    cdef int _look_up(self, Table table, int count) except -1:
        """Find the renderings of a batch, and have the memory that its hits will read on its way to the processor.

        Each loop asks for what the next one reads: slot, rendering, life.
        """
        cdef int i
        cdef unsigned int length
        cdef Slot *slot
        for i in range(count):
            length = self.messages[i].msg_len
            if length > 2:
                self.hashes[i] = table._hash(self.queries + i * QUERY_MAX_BYTES + 2, length - 2)
                __builtin_prefetch(table._home(self.hashes[i]))
        for i in range(count):
            slot = table._home(self.hashes[i]) if self.messages[i].msg_len > 2 else NULL
            if slot != NULL and slot.hash == self.hashes[i] and slot.value != NULL:
                # A usual one is 200 to 260 bytes.
                __builtin_prefetch(slot.value)
                __builtin_prefetch(<char *> slot.value + CACHE_LINE_BYTES)
                __builtin_prefetch(<char *> slot.value + 2 * CACHE_LINE_BYTES)
                __builtin_prefetch(<char *> slot.value + 3 * CACHE_LINE_BYTES)
        for i in range(count):
            self.found[i] = NULL
            length = self.messages[i].msg_len
            if length <= 2:
                continue
            slot = table._find(self.hashes[i], self.queries + i * QUERY_MAX_BYTES + 2, length - 2)
            if slot != NULL:
                self.found[i] = slot.value
                __builtin_prefetch((<Rendering> slot.value).life)
        return 0

    cdef bint _hit(self, Table table, int i, double now_s, unsigned int out) except -1:
        """Queue the rendering that was found for query `i`; false if it is dead, or too long.

        The answer is put together where the query was: its ID stands there already.
        """
        cdef Rendering kept = <Rendering> self.found[i]
        cdef Life life
        cdef Series series
        cdef Slot *place = NULL
        cdef uint8_t *query = self.queries + i * QUERY_MAX_BYTES
        cdef unsigned int asked_bytes = self.messages[i].msg_len
        cdef Py_ssize_t size
        if kept.next != NULL:
            # A ring: another query of this batch may have had its turn.
            place = table._find(self.hashes[i], query + 2, asked_bytes - 2)
            if place == NULL:
                return False
            kept = <Rendering> place.value
        life = <Life> kept.life
        size = kept.body_bytes
        if now_s >= life.until_s or size + 2 > QUERY_MAX_BYTES:
            return False
        if now_s >= kept.next_s or kept.stored_s != life.stored_s:
            _age(kept, life, now_s)
        life.uses += 1
        series = <Series> kept.series
        series.uses += 1
        series.request_bytes += asked_bytes
        series.response_bytes += size + 2
        self.counted[out] = kept.series
        memcpy(query + 2, _body(<PyObject *> kept), size)
        self._queue(i, out, <char *> query, size + 2)
        if place != NULL and kept.next != NULL:
            Py_INCREF(<object> kept.next)
            place.value = kept.next
            Py_DECREF(kept)  # the table's reference; the one before it in the ring has another
        return True

    cdef int _settle_durations(self, unsigned int out, double duration_s) except -1:
        """Put the hits of a batch that were sent only now into their true duration bucket. No miss was waited for."""
        cdef unsigned int i
        if duration_s > FIRST_BUCKET_S:
            for i in range(out):
                (<Series> self.counted[i]).late(duration_s)
        return 0

    cdef void _queue(self, int i, unsigned int out, char *data, Py_ssize_t size) noexcept:
        """Put one answer, to query `i`, into the batch. `data` lives until `_send`."""
        cdef iovec *part = &self.out_parts[out]
        cdef msghdr *message = &self.answers[out].msg_hdr
        cdef msghdr *asked = &self.messages[i].msg_hdr
        part.iov_base = data
        part.iov_len = size
        message.msg_iov = part
        message.msg_iovlen = 1
        message.msg_name = asked.msg_name
        message.msg_namelen = asked.msg_namelen
        message.msg_control = asked.msg_control if self.wildcard else NULL
        message.msg_controllen = asked.msg_controllen if self.wildcard else 0

    cdef Py_ssize_t _send(self, unsigned int out):
        """Send the batch; return how many answers the kernel did not take. One that fails does not stop the others."""
        cdef unsigned int done = 0
        cdef Py_ssize_t lost = 0
        cdef int sent
        while done < out:
            sent = sendmmsg(self.fd, self.answers + done, out - done, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent > 0:
                done += <unsigned int> sent
            elif errno != EINTR:
                done += 1
                lost += 1
        return lost

    cdef void _turn_around(self, msghdr *message) noexcept:
        """Make the control message of a query that of its answer: leave from the address that was asked."""
        cdef cmsghdr *part = CMSG_FIRSTHDR(message)
        cdef uint8_t *data
        if part == NULL:
            message.msg_controllen = 0
            return
        data = CMSG_DATA(part)
        if part.cmsg_level == IPPROTO_IP and part.cmsg_type == IP_PKTINFO:
            # struct in_pktinfo: interface, local address, header's destination
            memset(data, 0, 4)
            memset(data + 8, 0, 4)
        elif part.cmsg_level == IPPROTO_IPV6 and part.cmsg_type == IPV6_PKTINFO:
            # struct in6_pktinfo: address, interface; only a link-local address needs its interface
            if not (data[0] == 0xFE and data[1] & 0xC0 == 0x80):
                memset(data + 16, 0, 4)
        else:
            message.msg_controllen = 0

    cdef tuple _client(self, int i):
        """Return the client of query `i` as the pipeline hands it back: address bytes, socket address, control."""
        cdef msghdr *message = &self.messages[i].msg_hdr
        cdef char *peer = <char *> message.msg_name
        cdef uint16_t family
        memcpy(&family, peer, 2)
        cdef bytes address
        if family == AF_INET6:
            address = PyBytes_FromStringAndSize(peer + 8, 16)
        else:
            address = PyBytes_FromStringAndSize(peer + 4, 4)
        cdef bytes control = b""
        if self.wildcard and message.msg_controllen:
            control = PyBytes_FromStringAndSize(<char *> message.msg_control, message.msg_controllen)
        return address, PyBytes_FromStringAndSize(peer, message.msg_namelen), control


def one_heap():
    """Have threads that start from now on allocate from the one heap of the process (glibc; elsewhere nothing)."""
    lane_one_heap()
