"""What holds for the channels of a pattern in the index: how much of one is shown to who comes back, and whether it is
conflated. A channel has its rule from when it comes up: the first whose pattern has it, or none."""

cimport cython
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE

from sse_fast._native.log.channels cimport Rule
from sse_fast._native.log.patterns cimport matches, meet

ChannelRule = tuple[bytes, int, int, bool]


@cython.final
cdef class Rules:
    """Rules(rules): of (pattern, keep, max_age, conflates), the pattern well formed. keep: events of one channel that
    are shown; max_age: milliseconds for which they are; 0: without a bound."""

    def __cinit__(self, rules=()):
        cdef Rule rule
        cdef list made = []
        for pattern, keep, max_age, conflates in rules:
            rule = Rule.__new__(Rule)
            rule.pattern, rule.keep, rule.max_age, rule.conflates = pattern, keep, max_age, conflates
            self.hide = self.hide or rule.keep or rule.max_age
            self.conflate = self.conflate or rule.conflates
            made.append(rule)
        self._rules = tuple(made)
        self.count = len(made)

    cdef Rule of(self, bytes name):
        """That a channel of this name has, or None."""
        cdef Py_ssize_t i
        for i in range(PyTuple_GET_SIZE(self._rules)):
            if matches((<Rule>PyTuple_GET_ITEM(self._rules, i)).pattern, name):
                return <Rule>PyTuple_GET_ITEM(self._rules, i)
        return None

    def shows_all(self, names, patterns):
        """Whether who comes back is shown every event of the channels of these names, and of those that these patterns
        have."""
        cdef Rule rule
        for name in names:
            rule = self.of(name)
            if rule is not None and (rule.keep or rule.max_age or rule.conflates):
                return False
        for pattern in patterns:
            for rule in self._rules:
                if (rule.keep or rule.max_age or rule.conflates) and meet(rule.pattern, pattern):
                    return False
        return True

    cdef bint conflates_of(self, bytes pattern) noexcept:
        """Whether a channel of this pattern can be conflated."""
        cdef Py_ssize_t i
        cdef Rule rule
        for i in range(PyTuple_GET_SIZE(self._rules) if self.conflate else 0):
            rule = <Rule>PyTuple_GET_ITEM(self._rules, i)
            if rule.conflates and meet(rule.pattern, pattern):
                return True
        return False
