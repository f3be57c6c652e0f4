"""Forms: bodies and queries in `application/x-www-form-urlencoded` (WHATWG URL, section 5.1)."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr


cdef inline int digit(char letter) noexcept nogil:
    """Of a hexadecimal digit; -1: it is none."""
    if 48 <= letter <= 57:              # 0 to 9
        return letter - 48
    letter |= 32
    return letter - 87 if 97 <= letter <= 102 else -1


cdef bytes decoded(const char* text, Py_ssize_t size):
    """A name or a value. What is no escape stands for itself."""
    if not size or (memchr(text, b"%", size) == NULL and memchr(text, b"+", size) == NULL):
        return PyBytes_FromStringAndSize(text, size)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, size)
    cdef char* to = PyBytes_AS_STRING(made)
    cdef Py_ssize_t at = 0, length = 0
    cdef int high, low
    while at < size:
        if text[at] == b"+":
            to[length] = b" "
        elif text[at] == b"%" and at + 2 < size:
            high, low = digit(text[at + 1]), digit(text[at + 2])
            if high < 0 or low < 0:
                to[length] = b"%"
            else:
                to[length] = <char>(high * 16 + low)
                at += 2
        else:
            to[length] = text[at]
        at += 1
        length += 1
    return made[:length]


def parse_form(bytes body not None, Py_ssize_t most=1024):
    """Its fields in their order, as (name, value), decoded, of any bytes. One without "=" has an empty value. Raises
    ValueError for more than `most`."""
    cdef const char* text = PyBytes_AS_STRING(body)
    cdef const char* end = text + PyBytes_GET_SIZE(body)
    cdef const char* behind
    cdef const char* equals
    cdef list fields = []
    cdef Py_ssize_t count = 0
    while text < end:
        behind = <const char*>memchr(text, b"&", end - text)
        if behind == NULL:
            behind = end
        if behind > text:
            count += 1
            if count > most:
                raise ValueError(f"it has more than {most} fields")
            equals = <const char*>memchr(text, b"=", behind - text)
            if equals == NULL:
                fields.append((decoded(text, behind - text), b""))
            else:
                fields.append((decoded(text, equals - text), decoded(equals + 1, behind - equals - 1)))
        text = behind + 1
    return fields
