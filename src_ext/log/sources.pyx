"""What a stream listens to that has matchers: exact names and templates, and which private events it may see.

A private event is one of several names: the first, which nobody can spell, holds all its topics (`event_rules.hidden`), the
others are the topics. It is listened to by a topic, as any event is, and seen where one of its topics, that one or another,
is granted.

What a template says of a name is asked once: it runs somebody else's code, and is remembered, so many bytes of all
templates together. Who takes in what was published asks so often in a turn, and goes on in the next.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t

cdef enum:
    ANSWERS = 96 << 20              # bytes of those that are remembered; several times what one event takes
    AN_ANSWER = 100                 # bytes, beside its name
    LITERAL = 128                   # bytes of what names begin with that are compared

cdef uint64_t answered = 0          # bytes of what all templates of this process remember
cdef int64_t tries = -1             # that are left in this turn; -1: any number


class MoreToTry(Exception):
    """As many names were shown to templates as are in one turn. What they said is remembered: in the next it goes on."""


@cython.final
cdef class Template:
    """A matcher, and who listens by it. `matcher.matches(name)`: whether it has a name."""

    def __cinit__(self, matcher):
        self.matcher = matcher
        self.literal = getattr(matcher, "literal", "").encode("utf-8", "replace")[:LITERAL]
        self.weight = getattr(matcher, "weight", 2)
        self.listeners = set()
        self.answers = {}

    cdef bint decide(self, bytes name) except -1:
        """Raises MoreToTry."""
        global answered, tries
        answer = self.answers.get(name)
        if answer is None:
            if tries == 0:
                raise MoreToTry
            if tries > 0:
                tries -= 1
            try:
                answer = bool(self.matcher.matches(name.decode("utf-8", "replace")))
            except MemoryError:
                raise
            except Exception:           # it has no names, then, and harms nobody else's events
                answer = False
            answered += <uint64_t>(AN_ANSWER + PyBytes_GET_SIZE(name))
            self.answers[name] = answer
        return answer


@cython.final
cdef class Source:
    """Source(names, matchers, everything, granted, granted_by): names and matchers that are listened to; of private events
    `everything` may be seen, or those with a topic that is one of the names `granted` or that `granted_by` have. A value:
    equal to one of the same."""

    def __cinit__(self, names, matchers=(), bint everything=False, granted=(), granted_by=()):
        self.names, self.matchers = frozenset(names), frozenset(matchers)
        self.everything = everything
        self.granted, self.granted_by = frozenset(granted), frozenset(granted_by)
        self._key = (self.names, self.matchers, everything, self.granted, self.granted_by)
        self._hash = hash(self._key)
        self.listening = self.granting = ()

    def __hash__(self):
        return self._hash

    def __eq__(self, other):
        return type(other) is Source and self._key == (<Source>other)._key

    cdef bint listens_to(self, bytes name) except -1:
        """Whether it listens to a topic."""
        cdef Template template
        if name in self.names:
            return True
        if PyBytes_AS_STRING(name)[0] in (c"$", HIDDEN):
            return False
        for template in <tuple>self.listening:
            if template.decide(name):
                return True
        return False

    cdef bint may_see(self, bytes hidden) except -1:
        """Whether it may see private events of that hidden name."""
        cdef Template template
        cdef bytes topic
        if self.everything:
            return True
        if not self.granted and not self.granting:
            return False
        for topic in topics_of(hidden):
            if topic in self.granted:
                return True
            for template in <tuple>self.granting:
                if template.decide(topic):
                    return True
        return False

    cdef bint takes(self, bytes name) except -1:
        """Whether the events of a name, a hidden one too, are its."""
        cdef bytes topic
        if not is_hidden(name):
            return self.listens_to(name)
        for topic in topics_of(name):
            if self.listens_to(topic):
                return self.may_see(name)
        return False

    cdef bint listens(self, bytes name) noexcept:
        """`listens_to`; where it cannot be asked, False."""
        try:
            return self.listens_to(name)
        except BaseException:
            return False

    cdef bint sees(self, bytes hidden) noexcept:
        """`may_see`; where it cannot be asked, False."""
        try:
            return self.may_see(hidden)
        except BaseException:
            return False

    cdef bint concerns(self, bytes name) noexcept:
        """`takes`; where it cannot be asked, True. Nobody can ask one that has been let go, whose templates are gone."""
        if (self.matchers and not self.listening) or (self.granted_by and not self.granting):
            return True
        try:
            return self.takes(name)
        except BaseException:
            return True


cdef list topics_of(bytes hidden):
    return hidden.split(b"\x01")[1:]


cdef void limit_tries(int64_t most) noexcept:
    """From now on there are so many answers that are not known; -1: any number."""
    global tries
    tries = most


cdef bint too_many_answers() noexcept:
    return answered > ANSWERS


cdef void forget_answers(templates) noexcept:
    """Of all templates there are."""
    global answered
    cdef Template template
    answered = 0
    for template in templates:
        template.answers.clear()
