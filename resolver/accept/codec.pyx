# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""`decode`, `scan` and `fit` in C: what every question pays that no packet cache answers.

Each has the contract of its Python twin (`accept.decode`, `wire.ttls`, `reply.fit`), passes the same tests, and does
the ordinary message by itself. Whatever is not ordinary (malformed, cut, odd in any way) it hands to the twin
untouched: what happens to hostile bytes is written once, in Python, and nothing here decides it.

Longer than 300 lines because three functions share their C declarations and the tuples that they fill.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLong
from cpython.ref cimport Py_INCREF, PyObject, PyTypeObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

from resolver.accept.decode import decode as _decode
from resolver.reply.fit import STREAM_BYTES, fit as _fit
from resolver.wire.edns import PLAIN
from resolver.wire.header import AD, CD, HEADER_BYTES, OPCODE_MASK, QR, RA, RCODE_MASK, RD
from resolver.wire.question import CD_BIT, DO_BIT, Question
from resolver.wire.ttls import Scan, scan as _scan

cdef extern from "Python.h":
    PyTypeObject *Py_TYPE(PyObject *)
    object _allocate "PyType_GenericAlloc"(PyTypeObject *, Py_ssize_t)

cdef enum:
    HEADER_SIZE = 12
    NAME_MAX_BYTES = 255
    LABEL_MAX_BYTES = 63
    OPT_BYTES = 11
    RECORD_BYTES = 10
    EDNS_MIN_BYTES = 512
    RECORDS_MAX = 64  # of one answer; one with more goes to the twin
    TYPE_NS = 2
    TYPE_CNAME = 5
    TYPE_SOA = 6
    TYPE_OPT = 41
    SOA_MIN_BYTES = 22
    QUESTION_FIELDS = 10
    SCAN_FIELDS = 11

assert HEADER_BYTES == HEADER_SIZE
assert len(Question._fields) == QUESTION_FIELDS
assert len(Scan._fields) == SCAN_FIELDS

cdef long UNANSWERABLE = QR | OPCODE_MASK
cdef long RECURSION_DESIRED = RD
cdef long CHECKING_DISABLED = CD
cdef long ALWAYS = QR | RA
cdef long ECHOED = RD | CD
cdef long AUTHENTIC = AD
cdef long RCODE = RCODE_MASK
cdef long WHOLE_STREAM = STREAM_BYTES
cdef uint8_t DO_VARIANT = DO_BIT
cdef uint8_t CD_VARIANT = CD_BIT
cdef bytes OPT_WITHOUT_DO = PLAIN[False]
cdef bytes OPT_WITH_DO = PLAIN[True]
cdef PyTypeObject *QUESTION = <PyTypeObject *> <PyObject *> Question
cdef PyTypeObject *SCAN = <PyTypeObject *> <PyObject *> Scan


cdef inline long _word(const uint8_t *data) noexcept:
    return data[0] << 8 | data[1]


cdef inline int64_t _double_word(const uint8_t *data) noexcept:
    return <int64_t> data[0] << 24 | data[1] << 16 | data[2] << 8 | data[3]


cdef inline void _fill(object made, Py_ssize_t index, object value):
    Py_INCREF(value)
    PyTuple_SET_ITEM(made, index, value)


def decode(bytes query):
    """Return what `query` asks, or the answer that rejects it, or None: see `accept.decode.decode`."""
    cdef const uint8_t *data = <const uint8_t *> PyBytes_AS_STRING(query)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(query)
    cdef Py_ssize_t position = HEADER_SIZE
    cdef Py_ssize_t name_end
    cdef Py_ssize_t end
    cdef Py_ssize_t option
    cdef Py_ssize_t i
    cdef long flags
    cdef long edns_size = 0
    cdef bint do = False
    cdef bint keep
    cdef bint lower = True
    cdef uint8_t letter
    cdef uint8_t *folded
    if size < HEADER_SIZE + 5:
        return _decode(query)
    flags = _word(data + 2)
    # One question, no answers, no authorities, one additional record at most.
    if flags & UNANSWERABLE or data[4] or data[5] != 1 or data[6] or data[7] or data[8] or data[9] or data[10]:
        return _decode(query)
    while data[position]:
        if data[position] > LABEL_MAX_BYTES:
            return _decode(query)
        position += data[position] + 1
        if position + 5 > size:
            return _decode(query)
    name_end = position + 1
    end = name_end + 4
    if name_end - HEADER_SIZE > NAME_MAX_BYTES:
        return _decode(query)
    if data[11] == 0:
        keep = size == end
    else:
        if data[11] != 1 or size < end + OPT_BYTES:
            return _decode(query)
        if data[end] or data[end + 1] or data[end + 2] != TYPE_OPT or data[end + 6]:
            return _decode(query)
        option = end + OPT_BYTES
        if size != option + _word(data + end + 9):
            return _decode(query)
        keep = size == option
        while option + 4 <= size:
            option += 4 + _word(data + option + 2)
        if option != size:
            return _decode(query)
        edns_size = max(_word(data + end + 3), <long> EDNS_MIN_BYTES)
        do = data[end + 7] >= 0x80
    key = PyBytes_FromStringAndSize(NULL, end - HEADER_SIZE + 1)
    folded = <uint8_t *> PyBytes_AS_STRING(key)
    for i in range(name_end - HEADER_SIZE):
        letter = data[HEADER_SIZE + i]
        if c"A" <= letter <= c"Z":
            letter |= 0x20
            lower = False
        folded[i] = letter
    memcpy(folded + (name_end - HEADER_SIZE), data + name_end, 4)
    folded[end - HEADER_SIZE] = (DO_VARIANT if do else 0) | (CD_VARIANT if flags & CHECKING_DISABLED else 0)
    question = _allocate(QUESTION, QUESTION_FIELDS)
    _fill(question, 0, key)
    _fill(question, 1, PyBytes_FromStringAndSize(<const char *> data + HEADER_SIZE, end - HEADER_SIZE))
    _fill(question, 2, _word(data + name_end))
    _fill(question, 3, _word(data + name_end + 2))
    _fill(question, 4, PyBytes_FromStringAndSize(<const char *> data, 2))
    _fill(question, 5, flags)
    _fill(question, 6, edns_size)
    _fill(question, 7, do)
    _fill(question, 8, size)
    if keep and lower and flags & RECURSION_DESIRED:
        _fill(question, 9, PyBytes_FromStringAndSize(<const char *> data + 2, size - 2))
    else:
        _fill(question, 9, None)
    return question


def fit(
    question, bytes packet, tuple ttl_offsets, elapsed_s, floor_s, max_bytes, authoritative=0, opt=None
):
    """Return the whole answer to `question` that `packet` holds: see `reply.fit.fit`."""
    cdef bytes query_id
    cdef bytes asked
    cdef bytes tail = b""
    cdef const uint8_t *data = <const uint8_t *> PyBytes_AS_STRING(packet)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(packet)
    cdef Py_ssize_t asked_size
    cdef Py_ssize_t i
    cdef Py_ssize_t at
    cdef long asked_flags
    cdef long edns_size
    cdef long limit = max_bytes
    cdef long flags
    cdef long passed_s = elapsed_s
    cdef int64_t least_s = floor_s
    cdef int64_t ttl_s
    cdef long count
    cdef uint8_t *out
    if Py_TYPE(<PyObject *> question) != QUESTION:
        return _fit(question, packet, ttl_offsets, elapsed_s, floor_s, max_bytes, authoritative, opt)
    asked = <bytes> PyTuple_GET_ITEM(question, 1)
    query_id = <bytes> PyTuple_GET_ITEM(question, 4)
    asked_flags = PyLong_AsLong(<object> PyTuple_GET_ITEM(question, 5))
    edns_size = PyLong_AsLong(<object> PyTuple_GET_ITEM(question, 6))
    do = <object> PyTuple_GET_ITEM(question, 7)
    asked_size = PyBytes_GET_SIZE(asked)
    if edns_size:
        tail = <bytes?> opt if opt is not None else (OPT_WITH_DO if do else OPT_WITHOUT_DO)
    if limit != WHOLE_STREAM and size + PyBytes_GET_SIZE(tail) > min(max(edns_size, <long> EDNS_MIN_BYTES), max(
        limit, <long> EDNS_MIN_BYTES
    )):
        return _fit(question, packet, ttl_offsets, elapsed_s, floor_s, max_bytes, authoritative, opt)
    if size < HEADER_SIZE + asked_size or PyBytes_GET_SIZE(query_id) != 2:
        return _fit(question, packet, ttl_offsets, elapsed_s, floor_s, max_bytes, authoritative, opt)
    flags = ALWAYS | <long> authoritative | asked_flags & ECHOED
    flags |= data[3] & (RCODE | AUTHENTIC if asked_flags & AUTHENTIC or do else RCODE)
    answer = PyBytes_FromStringAndSize(NULL, size + PyBytes_GET_SIZE(tail))
    out = <uint8_t *> PyBytes_AS_STRING(answer)
    memcpy(out, PyBytes_AS_STRING(query_id), 2)
    out[2] = <uint8_t> (flags >> 8)
    out[3] = <uint8_t> flags
    memcpy(out + 4, data + 4, 8)
    memcpy(out + HEADER_SIZE, PyBytes_AS_STRING(asked), asked_size)
    memcpy(out + HEADER_SIZE + asked_size, data + HEADER_SIZE + asked_size, size - HEADER_SIZE - asked_size)
    if edns_size:
        count = _word(data + 10) + 1
        out[10] = <uint8_t> (count >> 8)
        out[11] = <uint8_t> count
        memcpy(out + size, PyBytes_AS_STRING(tail), PyBytes_GET_SIZE(tail))
    if passed_s:
        for i in range(PyTuple_GET_SIZE(ttl_offsets)):
            at = PyLong_AsLong(<object> PyTuple_GET_ITEM(ttl_offsets, i))
            if at < 0 or at + 4 > size:
                return _fit(question, packet, ttl_offsets, elapsed_s, floor_s, max_bytes, authoritative, opt)
            ttl_s = _double_word(out + at)
            if ttl_s > 0x7FFFFFFF:
                ttl_s = 0
            ttl_s = max(ttl_s - passed_s, least_s)
            out[at] = <uint8_t> (ttl_s >> 24)
            out[at + 1] = <uint8_t> (ttl_s >> 16)
            out[at + 2] = <uint8_t> (ttl_s >> 8)
            out[at + 3] = <uint8_t> ttl_s
    return answer


def scan(bytes packet, question_end=0):
    """Walk `packet`, one whole answer with exactly one question: see `wire.ttls.scan`."""
    cdef const uint8_t *data = <const uint8_t *> PyBytes_AS_STRING(packet)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(packet)
    cdef Py_ssize_t position = question_end
    cdef Py_ssize_t start
    cdef Py_ssize_t offsets[RECORDS_MAX]
    cdef Py_ssize_t opt_start = 0
    cdef Py_ssize_t end
    cdef Py_ssize_t i
    cdef long rdata_bytes
    cdef long kind
    cdef long flags
    cdef long rcode
    cdef long answers
    cdef long authority_end
    cdef long records
    cdef int64_t ttl_s
    cdef int64_t minimum_s
    cdef int64_t min_ttl_s = -1
    cdef int64_t max_ttl_s = 0
    cdef int64_t soa_s = -1
    cdef int number = 0
    cdef bint has_target = False
    cdef bint has_ns = False
    if size < HEADER_SIZE or _word(data + 4) != 1:
        return _scan(packet, question_end)
    if position == 0:
        position = _behind_name(data, size, HEADER_SIZE)
        if position < 0:
            return _scan(packet, question_end)
        position += 4
        question_end = position
    if position < HEADER_SIZE or position > size:
        return _scan(packet, question_end)
    flags = _word(data + 2)
    rcode = flags & RCODE
    answers = _word(data + 6)
    authority_end = answers + _word(data + 8)
    records = authority_end + _word(data + 10)
    if records > RECORDS_MAX:
        return _scan(packet, question_end)
    for i in range(records):
        if opt_start:  # records stand behind it
            return _scan(packet, question_end)
        start = position
        position = _behind_name(data, size, position)
        if position < 0 or position + RECORD_BYTES > size:
            return _scan(packet, question_end)
        kind = _word(data + position)
        ttl_s = _double_word(data + position + 4)
        rdata_bytes = _word(data + position + 8)
        position += RECORD_BYTES
        if position + rdata_bytes > size:
            return _scan(packet, question_end)
        if kind == TYPE_OPT:
            if i < authority_end or data[start]:
                return _scan(packet, question_end)
            opt_start = start
            rcode |= (ttl_s >> 24) << 4
        else:
            max_ttl_s = max(max_ttl_s, ttl_s)
            if ttl_s > 0x7FFFFFFF:
                ttl_s = 0
            if min_ttl_s < 0 or ttl_s < min_ttl_s:
                min_ttl_s = ttl_s
            offsets[number] = position - 6
            number += 1
            if i < answers:
                has_target = has_target or kind != TYPE_CNAME
            elif i < authority_end:
                if kind == TYPE_SOA and rdata_bytes >= SOA_MIN_BYTES:
                    minimum_s = _double_word(data + position + rdata_bytes - 4)
                    soa_s = min(ttl_s, minimum_s if minimum_s <= 0x7FFFFFFF else 0)
                elif kind == TYPE_NS:
                    has_ns = True
        position += rdata_bytes
    end = opt_start if opt_start else position
    if end != size:
        kept = PyBytes_FromStringAndSize(<const char *> data, end)
        if opt_start:
            records = _word(data + 10) - 1
            (<uint8_t *> PyBytes_AS_STRING(kept))[10] = <uint8_t> (records >> 8)
            (<uint8_t *> PyBytes_AS_STRING(kept))[11] = <uint8_t> records
    else:
        kept = packet
    places = PyTuple_New(number)
    for i in range(number):
        _fill(places, i, offsets[i])
    found = _allocate(SCAN, SCAN_FIELDS)
    _fill(found, 0, kept)
    _fill(found, 1, flags)
    _fill(found, 2, rcode)
    _fill(found, 3, question_end)
    _fill(found, 4, answers)
    _fill(found, 5, has_target)
    _fill(found, 6, places)
    _fill(found, 7, min_ttl_s if min_ttl_s >= 0 else None)
    _fill(found, 8, soa_s if soa_s >= 0 else None)
    _fill(found, 9, has_ns)
    _fill(found, 10, max_ttl_s)
    return found


cdef Py_ssize_t _behind_name(const uint8_t *data, Py_ssize_t size, Py_ssize_t position) noexcept:
    """Return the position behind the name at `position`, -1 for one that the twin must look at."""
    cdef Py_ssize_t start = position
    while position < size:
        if data[position] == 0:
            return position + 1
        if data[position] >= 0xC0:
            if position + 1 >= size:
                return -1
            if not HEADER_SIZE <= ((data[position] & 0x3F) << 8 | data[position + 1]) < start:
                return -1
            return position + 2
        if data[position] > LABEL_MAX_BYTES:
            return -1
        position += data[position] + 1
        if position - start > NAME_MAX_BYTES:
            return -1
    return -1
