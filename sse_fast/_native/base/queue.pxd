# Intrusive first-in-first-out queues for C callers: what must not be forgotten is put into one.

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF


cdef extern from "Python.h":
    void Py_SET_SIZE(PyObject* items, Py_ssize_t size)


cdef inline void drop_last(list items) noexcept:
    """As `items.pop()`, which may want to reallocate, and so fail."""
    cdef Py_ssize_t last = PyList_GET_SIZE(items) - 1
    cdef PyObject* item = PyList_GET_ITEM(items, last)
    Py_SET_SIZE(<PyObject*>items, last)
    Py_DECREF(<object>item)


@cython.trashcan(True)              # here, where subclasses see it: a long queue that dies would take as deep a stack
cdef class Linked:                  # an item, in at most one queue at a time
    cdef:
        Linked behind               # the next one after it
        bint queued


cdef class Queue:
    cdef:
        Linked first, last

    cdef void push(self, Linked item) noexcept
    cdef Linked pop(self)
