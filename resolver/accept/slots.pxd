# Slots of Python classes with `__slots__`, read and written where they stand: no look-up by name, no descriptor.
# An offset is found once, at import. Who reads it from another class's instances reads rubbish: check the type first.
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject

cdef extern from "Python.h":
    ctypedef struct PyMemberDef:
        Py_ssize_t offset
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member

cdef extern from "structmember.h":
    pass


cdef inline Py_ssize_t offset_of(type owner, str name) except -1:
    """Return where the slot `name` stands in instances of `owner`."""
    descriptor = owner.__dict__[name]
    return (<PyMemberDescrObject *> <PyObject *> descriptor).d_member.offset


cdef inline PyObject *slot(PyObject *owner, Py_ssize_t offset) noexcept:
    """Return what stands in a slot, borrowed; NULL if nothing was ever put there."""
    return (<PyObject **> ((<char *> owner) + offset))[0]


cdef inline void put(PyObject *owner, Py_ssize_t offset, object value):
    cdef PyObject **place = <PyObject **> ((<char *> owner) + offset)
    cdef PyObject *old = place[0]
    Py_INCREF(value)
    place[0] = <PyObject *> value
    Py_XDECREF(old)
