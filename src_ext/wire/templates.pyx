"""Which published events are of typed channels: those whose name a template of a stream has (`schema.templates`).

Channels that no template has are untouched, and most are told apart by the first segment of their names, however many
templates there are.
What a stream of the others carries is not known here; whoever is asked raises where an event does not fit.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp


@cython.final
cdef class Template:
    """The segments of a template, as bytes."""


@cython.final
cdef class TypedChannels:
    """TypedChannels(templates, refuse): each template a sequence of its segments, `(before, behind)`; of a literal one
    `behind` is None. No two templates have a name in common. `refuse(place, channel, frame)`: raises InvalidEvent where
    the event of this frame is not of the stream whose template is at this place."""

    def __cinit__(self, templates, refuse not None):
        cdef Template template
        cdef dict by_first = {}
        cdef list others = []
        self.refuse = refuse
        for place, segments in enumerate(templates):
            template = Template.__new__(Template)
            template.place = place
            template.segments = tuple((bytes(before), behind) for before, behind in segments)
            first, rest = template.segments[0]
            (by_first.setdefault(first, []) if rest is None else others).append(template)
        self.by_first = {first: tuple(each) for first, each in by_first.items()}
        self.others = tuple(others)

    def find(self, bytes name not None):
        """The place of the template that has this name; -1: none has."""
        return self.place_of(name)

    cdef Py_ssize_t place_of(self, bytes name) except -2:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(name)
        cdef const char* text = PyBytes_AS_STRING(name)
        cdef const char* colon = <const char*>memchr(text, b":", size)
        cdef Template template
        found = self.by_first.get(name if colon == NULL else PyBytes_FromStringAndSize(text, colon - text))
        if found is not None:
            for template in <tuple>found:
                if has(template, text, size):
                    return template.place
        for template in self.others:
            if has(template, text, size):
                return template.place
        return -1

    cdef int look(self, object channels, bytes frame) except -1:
        """Raise InvalidEvent where an event of these channels, the names of several as a tuple, is not of their stream."""
        cdef Py_ssize_t place
        if type(channels) is bytes:
            place = self.place_of(<bytes>channels)
            if place >= 0:
                self.refuse(place, channels, frame)
            return 0
        for channel in <tuple>channels:
            place = self.place_of(<bytes>channel)
            if place >= 0:
                self.refuse(place, channel, frame)
        return 0


cdef bint has(Template template, const char* at, Py_ssize_t size) except -1:
    """Whether the template has this name."""
    cdef const char* colon
    cdef const char* end = at + size
    cdef Py_ssize_t left = len(template.segments), length, before_length, behind_length
    cdef bytes before, behind
    for before, behind in template.segments:
        left -= 1
        colon = <const char*>memchr(at, b":", end - at)
        if (colon == NULL) != (left == 0):
            return False
        length = (end if colon == NULL else colon) - at
        before_length = PyBytes_GET_SIZE(before)
        if length < before_length or memcmp(at, PyBytes_AS_STRING(before), before_length) != 0:
            return False
        if behind is None:
            if length != before_length:
                return False
        else:
            behind_length = PyBytes_GET_SIZE(behind)
            if length <= before_length + behind_length:
                return False
            if memcmp(at + length - behind_length, PyBytes_AS_STRING(behind), behind_length) != 0:
                return False
        at += length + 1
    return True
