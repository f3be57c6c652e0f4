"""What a stream listens to that has matchers: exact names and templates, and which private events it may see.

A private event is one of several names: the first, which nobody can spell, holds all its topics (`event_rules.hidden`), the
others are the topics. It is listened to by a topic, as any event is, and seen where one of its topics, that one or another,
is granted.

What a template says of a name is asked once: it runs somebody else's code, and is remembered, so many answers of all
templates together.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef enum:
    ANSWERS = 262144                # that are remembered

cdef uint64_t answered = 0          # by all templates of this process


@cython.final
cdef class Template:
    """A matcher, and who listens by it. `matcher.matches(name)`: whether it has a name."""

    def __cinit__(self, matcher):
        self.matcher = matcher
        self.listeners = set()
        self.answers = {}

    cdef bint decide(self, bytes name) except -1:
        global answered
        answer = self.answers.get(name)
        if answer is None:
            try:
                answer = bool(self.matcher.matches(name.decode("utf-8", "replace")))
            except MemoryError:
                raise
            except Exception:           # it has no names, then, and harms nobody else's events
                answer = False
            answered += 1
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


cdef bint too_many_answers() noexcept:
    return answered > ANSWERS


cdef void forget_answers(templates) noexcept:
    """Of all templates there are."""
    global answered
    cdef Template template
    answered = 0
    for template in templates:
        template.answers.clear()
