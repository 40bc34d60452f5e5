# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""`TcpServer.accept` and `Desk.look` in C: what a connection with one question at a time pays.

Both work on the same streams, queues and counters as their Python twins (`accept.tcp`, `accept.desk`) and do the
ordinary visit by themselves: a client that is under all bounds connects, one whole question is all that has arrived,
its answer fits into the kernel's buffer, the client leaves. Whatever is not that (a part of a message, several of
them, a bound that is reached, an error) goes on in the twin's own methods: each decision is written once.

Longer than 300 lines because it is one visit from its beginning to its end, with 60 lines of C declarations.

A stream is made by copying one that Python made: the slots' places are found once at import.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, PyObject, PyTypeObject
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy

from resolver.accept.slots cimport offset_of, put, slot

import os
from select import EPOLLIN as _EPOLLIN

from resolver.accept import desk as _desk, stream as _stream, tcp as _tcp
from resolver.accept.stream import Stream
from resolver.wire.framing import FrameReader
from resolver.wire.header import HEADER_BYTES

cdef extern from "Python.h":
    PyTypeObject *Py_TYPE(PyObject *)
    object _allocate "PyType_GenericAlloc"(PyTypeObject *, Py_ssize_t)
    int PyODict_SetItem(object, object, object) except -1
    int PyODict_DelItem(object, object) except -1

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    int accept4(int, sockaddr *, socklen_t *, int)
    Py_ssize_t recv(int, void *, size_t, int)
    Py_ssize_t send(int, const void *, size_t, int)
    int AF_INET
    int AF_INET6
    int MSG_DONTWAIT
    int MSG_NOSIGNAL
    int SOCK_CLOEXEC
    int SOCK_NONBLOCK

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        unsigned int events
        epoll_data_t data
    int epoll_wait(int, epoll_event *, int, int)

cdef extern from "<unistd.h>" nogil:
    int close(int)

cdef extern from "<netinet/in.h>" nogil:
    unsigned short ntohs(unsigned short)
    struct in_addr:
        pass
    struct in6_addr:
        pass
    struct sockaddr_in:
        unsigned short sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        in6_addr sin6_addr

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int, const void *, char *, socklen_t)

cdef enum:
    HEADER_SIZE = 12
    ADDRESS_BYTES = 16
    TEXT_BYTES = 64
    BATCH = 64
    BUFFER_BYTES = 65536

assert HEADER_BYTES == HEADER_SIZE
assert _tcp.ACCEPT_BATCH == _desk.READY_MAX == BATCH
assert _stream.READ_BYTES == BUFFER_BYTES

cdef unsigned int READABLE = _EPOLLIN
cdef object _READABLE = _EPOLLIN
cdef object _NO = False  # the object: cast to a pointer, the word itself would be a C zero
cdef uint8_t _buffer[BUFFER_BYTES]  # the GIL is held from a read until what it brought is copied


cdef PyTypeObject *STREAM = <PyTypeObject *> <PyObject *> Stream
cdef PyTypeObject *FRAMES = <PyTypeObject *> <PyObject *> FrameReader
cdef Py_ssize_t S_DESK = offset_of(Stream, "_desk")
cdef Py_ssize_t S_ENDING = offset_of(Stream, "_ending")
cdef Py_ssize_t S_FD = offset_of(Stream, "fd")
cdef Py_ssize_t S_FRAMES = offset_of(Stream, "_frames")
cdef Py_ssize_t S_HOST = offset_of(Stream, "client_host")
cdef Py_ssize_t S_LAST = offset_of(Stream, "_last")
cdef Py_ssize_t S_OUT = offset_of(Stream, "_out")
cdef Py_ssize_t S_OUTSTANDING = offset_of(Stream, "outstanding")
cdef Py_ssize_t S_PORT = offset_of(Stream, "client_port")
cdef Py_ssize_t S_QUIET_SINCE = offset_of(Stream, "quiet_since_s")
cdef Py_ssize_t S_TURN_IS_DUE = offset_of(Stream, "_turn_is_due")
cdef Py_ssize_t S_WATCHED = offset_of(Stream, "_watched")
cdef Py_ssize_t F_CHUNK = offset_of(FrameReader, "_chunk")
cdef Py_ssize_t F_PARTIAL = offset_of(FrameReader, "partial")
cdef Py_ssize_t F_POSITION = offset_of(FrameReader, "_position")


cdef class Visits:
    """The connections of one `TcpServer`, whose desk is `desk`. It makes this and calls `accept` and `look`."""

    cdef object _server
    cdef object _desk
    cdef object _pattern
    cdef list _offsets
    cdef dict _by_client
    cdef dict _by_fd
    cdef object _quiet
    cdef object _counters
    cdef str _last_host
    cdef uint8_t _last_address[ADDRESS_BYTES]
    cdef Py_ssize_t _last_size
    cdef Py_ssize_t _client_max
    cdef Py_ssize_t _connections_max
    cdef long _pipelined_max
    cdef Py_ssize_t _unsent_max_bytes

    def __init__(self, server, desk):
        options = desk.options
        self._server = server
        self._desk = desk
        self._by_client = server._by_client
        self._by_fd = desk._open
        self._quiet = desk.quiet
        self._counters = desk.counters
        self._last_host = ""
        self._last_size = 0
        self._client_max = options.tcp_connections_per_client
        self._connections_max = options.tcp_connections_max
        self._pipelined_max = options.tcp_pipelined_max
        self._unsent_max_bytes = options.tcp_unsent_max_bytes
        self._pattern = Stream(desk, -1, ("", 0), 0.0)
        self._offsets = [offset_of(Stream, name) for name in Stream.__slots__ if name not in ("_frames", "_out")]

    def accept(self):
        """Take a batch; tell whether there may be more: see `TcpServer.accept`."""
        cdef sockaddr_storage peer
        cdef socklen_t size
        cdef int number
        cdef int fd
        cdef int listening = self._server._sock.fileno()
        cdef dict siblings
        now_s = self._desk.now()
        for _ in range(BATCH):
            size = sizeof(peer)
            fd = accept4(listening, <sockaddr *> &peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd < 0:
                number = errno
                if number == EAGAIN or number == EINTR:
                    return False
                if self._server.failed_to_accept(OSError(number, os.strerror(number))):
                    return False
                continue
            host = self._host(&peer)
            port = ntohs((<sockaddr_in *> &peer).sin_port)  # it stands in the same place for both families
            siblings = self._by_client.get(host)
            if self._server._open >= self._connections_max or (
                siblings is not None and len(siblings) >= self._client_max
            ):
                self._server.take(fd, (host, port), now_s)
                continue
            stream = self._new_stream(fd, host, port, now_s)
            self._counters.accepted += 1
            self._server._open += 1
            if siblings is None:
                self._by_client[host] = {stream: None}
            else:
                siblings[stream] = None
            self._desk.opened(stream)
        return True

    def look(self):
        """Let streams that have news read and write: see `Desk.look`."""
        cdef epoll_event events[BATCH]
        cdef int ready
        cdef int i
        desk = self._desk
        if not desk._turn_is_due:
            desk.questions_left = _desk.TURN_QUESTIONS
        now_s = desk.now()
        ready = epoll_wait(desk.epoll.fileno(), events, BATCH, 0)
        for i in range(ready):
            stream = self._by_fd.get(events[i].data.fd)
            if stream is None:  # closed by one before it
                continue
            if events[i].events != READABLE or not self._visited(stream, events[i].data.fd, now_s):
                stream.ready(events[i].events, now_s)

    cdef bint _visited(self, object stream, int fd, object now_s) except -1:
        """Read, answer and write, or close, where that is all that there is to do; else touch nothing: False."""
        cdef PyObject *self_ = <PyObject *> stream
        cdef PyObject *frames = slot(self_, S_FRAMES)
        cdef Py_ssize_t got
        cdef bytes query
        if (
            slot(self_, S_WATCHED) != <PyObject *> _READABLE
            or slot(self_, S_ENDING) != <PyObject *> _NO
            or slot(self_, S_LAST) != <PyObject *> _NO
            or slot(self_, S_TURN_IS_DUE) != <PyObject *> _NO
            or <object> slot(self_, S_OUTSTANDING) != 0
            or <object> slot(frames, F_PARTIAL)
            or <object> slot(frames, F_CHUNK)
            or self._pipelined_max < 2
            or self._desk.questions_left < 2
        ):
            return False
        got = recv(fd, _buffer, BUFFER_BYTES, MSG_DONTWAIT)
        if got < 0:
            # An error stands in the socket until a read has told of it: the twin is not told of this one.
            if errno != EAGAIN and errno != EINTR:
                stream.abort()
            return True
        if got == 0:
            self._left(stream, fd)
            return True
        if got < 2 + HEADER_SIZE or (_buffer[0] << 8 | _buffer[1]) != got - 2:
            stream._frames.feed(PyBytes_FromStringAndSize(<char *> _buffer, got))
            stream._serve(now_s)
            return True
        query = PyBytes_FromStringAndSize(<char *> _buffer + 2, got - 2)
        self._answer(stream, fd, query, now_s)
        return True

    cdef int _answer(self, object stream, int fd, bytes query, object now_s) except -1:
        """Answer the one question that has arrived: `Stream._serve` for it."""
        cdef PyObject *self_ = <PyObject *> stream
        cdef Py_ssize_t size
        cdef Py_ssize_t sent
        desk = self._desk
        put(self_, S_OUTSTANDING, 1)
        response = desk.answer(query, stream, now_s)
        if response is not None:
            stream.outstanding -= 1
        if stream._ending:
            return 0  # cut off, by a flight that failed while it was asked
        desk.questions_left -= 1
        put(self_, S_QUIET_SINCE, now_s)
        self._quiet.move_to_end(stream)
        if response is None:
            if stream._out:
                stream._flush()
        else:
            size = len(response) + 2
            if stream._out or size > self._unsent_max_bytes or size > BUFFER_BYTES:
                stream._out.append(len(response).to_bytes(2, "big") + response)
                stream._out_bytes += size
                stream._flush()
                if not stream._ending:
                    stream._settle(now_s, 1, drained=size <= self._unsent_max_bytes)
                return 0
            _buffer[0] = <uint8_t> ((size - 2) >> 8)
            _buffer[1] = <uint8_t> (size - 2)
            memcpy(_buffer + 2, PyBytes_AS_STRING(<bytes?> response), size - 2)
            sent = send(fd, _buffer, size, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent == size:
                return 0
            if sent < 0:
                if errno != EAGAIN and errno != EINTR:
                    stream.abort()
                    return 0
                sent = 0
            stream.keep(PyBytes_FromStringAndSize(<char *> _buffer + sent, size - sent))
        if not stream._ending:
            stream._settle(now_s, 1, drained=True)
        return 0

    cdef int _left(self, object stream, int fd) except -1:
        """The client of an idle stream has gone: `Stream.abort` and all that it calls."""
        cdef PyObject *self_ = <PyObject *> stream
        cdef dict siblings
        server = self._server
        del self._by_fd[fd]
        PyODict_DelItem(self._quiet, stream)
        host = <object> slot(self_, S_HOST)
        siblings = self._by_client[host]
        del siblings[stream]
        if not siblings:
            del self._by_client[host]
        close(fd)
        put(self_, S_FD, -1)
        put(self_, S_ENDING, True)
        put(self_, S_WATCHED, 0)
        server._open -= 1
        if not server._open and server._all_closed is not None:
            server.tell_all_closed(server._all_closed)
        return 0

    cdef object _new_stream(self, int fd, object host, object port, object now_s):
        """As `Stream(desk, fd, (host, port), now_s)`."""
        cdef PyObject *pattern = <PyObject *> self._pattern
        cdef Py_ssize_t offset
        frames = _allocate(FRAMES, 0)
        put(<PyObject *> frames, F_CHUNK, b"")
        put(<PyObject *> frames, F_POSITION, 0)
        put(<PyObject *> frames, F_PARTIAL, bytearray())
        stream = _allocate(STREAM, 0)
        for place in self._offsets:
            offset = place
            put(<PyObject *> stream, offset, <object> slot(pattern, offset))
        put(<PyObject *> stream, S_FRAMES, frames)
        put(<PyObject *> stream, S_OUT, [])
        put(<PyObject *> stream, S_FD, fd)
        put(<PyObject *> stream, S_HOST, host)
        put(<PyObject *> stream, S_PORT, port)
        put(<PyObject *> stream, S_QUIET_SINCE, now_s)
        return stream

    cdef str _host(self, sockaddr_storage *peer):
        """Return the address as text; as `Stream` has it for IPv4 on an IPv6 socket. The last one is kept."""
        cdef char text[TEXT_BYTES]
        cdef Py_ssize_t size = 4
        cdef int family = peer.ss_family
        cdef const uint8_t *address = <const uint8_t *> &(<sockaddr_in *> peer).sin_addr
        if family == AF_INET6:
            size = ADDRESS_BYTES
            address = <const uint8_t *> &(<sockaddr_in6 *> peer).sin6_addr
        if size != self._last_size or memcmp(address, self._last_address, size):
            if inet_ntop(family, address, text, sizeof(text)) == NULL:
                raise OSError(errno, "inet_ntop")
            said = (<bytes> text).decode("ascii")
            mapped = _stream.MAPPED
            self._last_host = said[len(mapped) :] if said.startswith(mapped) and "." in said else said
            memcpy(self._last_address, address, size)
            self._last_size = size
        return self._last_host
