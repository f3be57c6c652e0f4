"""The patterns that are listened to, and which channel is of which. A name is segments between colons; in a pattern `*` is
exactly one segment, `**`, which stands last, one or more, and neither as the first one that begins with `$`.

What it keeps: a trie of the patterns, by segment. A channel looks through it when it gets its first event, and again when
one comes or goes that it is of: so a new pattern misses nothing and has no channels to walk over, and publishing costs by
the patterns that match. Of the last ones that came or went it knows the text, and a channel that gets an event compares its
name with those since it looked last (`Match.version`), unless they are so many that to look through the trie costs less. Of
patterns with `*` in many places that may be thousands of nodes: who lets one come and go has nobody pay that again. Each pattern remembers the positions of its
newest events, and from where on it has them all (`Pattern.known`): that is how its streams find them without a look at
those of others.
What it drops: a pattern when nobody listens to it any more; of positions, those of events that are gone, and the oldest
where there is no room: `most` in all patterns together, and a few for each. Then they are looked for again (`selection`).
Who is told: the groups that listen to a pattern, as those of a channel.

To tell and to take out allocate nothing that they could not do without.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.base.queue cimport Queue, drop_last
from sse_fast._native.log.channels cimport Channel, Match
from sse_fast._native.log.sources cimport (
    Source,
    Template,
    forget_answers,
    is_hidden,
    too_many_answers,
    topics_of,
)

from sse_fast.errors import HubClosed

cdef enum:
    LEAST = 256                     # positions that each pattern may remember, however many there are
    MATCHES = 16384                 # that are shared by channels to come
    CHANGES = 4096                  # that are known; a power of two
    FEW_CHANGES = 16                # to compare a name with so many costs less than any look through the trie
    MOST_WEIGHT = 2048              # of different templates: a new name is shown to each that it begins like
    NODES_A_TEMPLATE = 512          # that are looked at in the time that one takes to say whether it has a name
    DROPPED_AT_ONCE = 2             # positions, for each that is added: so they end up gone as their events do


cdef bint matches(bytes pattern, bytes name) noexcept:
    """Whether a channel is of a pattern, which is well formed."""
    return fits(PyBytes_AS_STRING(pattern), PyBytes_GET_SIZE(pattern), PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))


cdef bint fits(const char* p, size_t p_length, const char* n, size_t n_length) noexcept nogil:
    """`matches`, of bytes that are not Python's."""
    cdef const char* p_end = p + p_length
    cdef const char* n_end = n + n_length
    if n < n_end and n[0] == c"$" and p < p_end and p[0] == c"*":
        return False
    while True:
        if p < p_end and p[0] == c"*":
            if p + 1 < p_end and p[1] == c"*":
                return True
            p += 1
            while n < n_end and n[0] != c":":
                n += 1
        else:
            while p < p_end and n < n_end and p[0] == n[0] and p[0] != c":":
                p += 1
                n += 1
        if p == p_end or n == n_end:
            return p == p_end and n == n_end
        if p[0] != c":" or n[0] != c":":
            return False
        p += 1
        n += 1


cdef bint meet(bytes one, bytes other) noexcept:
    """Whether a name can be of both patterns, which are well formed."""
    cdef const char* a = PyBytes_AS_STRING(one)
    cdef const char* b = PyBytes_AS_STRING(other)
    cdef const char* a_end = a + PyBytes_GET_SIZE(one)
    cdef const char* b_end = b + PyBytes_GET_SIZE(other)
    if a < a_end and b < b_end and (a[0] == c"$" and b[0] == c"*" or a[0] == c"*" and b[0] == c"$"):
        return False
    while True:
        if a < a_end and b < b_end and (a[0] == c"*" or b[0] == c"*"):
            if a[0] == c"*" and a + 1 < a_end and a[1] == c"*" or b[0] == c"*" and b + 1 < b_end and b[1] == c"*":
                return True
            while a < a_end and a[0] != c":":
                a += 1
            while b < b_end and b[0] != c":":
                b += 1
        else:
            while a < a_end and b < b_end and a[0] == b[0] and a[0] != c":":
                a += 1
                b += 1
        if a == a_end or b == b_end:
            return a == a_end and b == b_end
        if a[0] != c":" or b[0] != c":":
            return False
        a += 1
        b += 1


cdef bint covers(bytes outer, bytes inner) noexcept:
    """Whether every name of the pattern `inner` is one of `outer`; both are well formed."""
    cdef const char* a = PyBytes_AS_STRING(outer)
    cdef const char* b = PyBytes_AS_STRING(inner)
    cdef const char* a_end = a + PyBytes_GET_SIZE(outer)
    cdef const char* b_end = b + PyBytes_GET_SIZE(inner)
    if a < a_end and b < b_end and a[0] == c"*" and b[0] == c"$":
        return False
    while True:
        if a + 1 < a_end and a[0] == c"*" and a[1] == c"*":
            return b < b_end
        if b + 1 < b_end and b[0] == c"*" and b[1] == c"*":
            return False
        if a < a_end and a[0] == c"*":
            a += 1
            while b < b_end and b[0] != c":":
                b += 1
        else:
            while a < a_end and b < b_end and a[0] == b[0] and a[0] != c":":
                a += 1
                b += 1
        if a == a_end or b == b_end:
            return a == a_end and b == b_end
        if a[0] != c":" or b[0] != c":":
            return False
        a += 1
        b += 1


@cython.final
cdef class Node:
    """A place in the trie."""


@cython.final
cdef class Pattern(Channel):
    """A pattern that is listened to. Made by `Patterns.open`."""

    def __dealloc__(self):
        PyMem_RawFree(self.positions)

    cdef bint has(self, bytes name) noexcept:
        """Whether events of this name are its, those that are not private."""
        return matches(self.name, name) if self.source is None else self.source.listens(name)

    cdef void add(self, uint64_t position, uint64_t floor) noexcept:
        """It got an event; of several of its channels, it gets it several times. `floor`: up to there all are gone."""
        cdef int i
        if position <= self.newest:
            return
        self.newest = self.last_position = position
        for i in range(DROPPED_AT_ONCE):
            if self.count and self.at(0) <= floor:
                self._drop_oldest(floor)
        if self.count == self.room and not self._grow():
            if self.room == 0:
                self.known = position
                return
            self._drop_oldest(floor)
        self.positions[(self.begin + self.count) & (self.room - 1)] = position
        self.count += 1

    cdef bint add_before(self, uint64_t position) noexcept:
        """It had an event before all that it remembers. False: there is no room for it."""
        if self.count and self.at(0) <= position:
            return True                 # an event of several of its channels
        if self.count == self.room and not self._grow():
            return False
        self.begin = (self.begin - 1) & (self.room - 1)
        self.positions[self.begin] = position
        self.count += 1
        self.newest = max(self.newest, position)
        return True

    cdef void _drop_oldest(self, uint64_t floor) noexcept:
        cdef uint64_t position = self.at(0)
        self.known = max(self.known, position)
        if position <= floor:
            self.evicted = position
        self.begin = (self.begin + 1) & (self.room - 1)
        self.count -= 1

    cdef bint _grow(self) noexcept:
        cdef uint32_t room = 2 * self.room if self.room else 4, i
        cdef uint64_t* grown
        if room > self.home.least and self.home.remembered + self.room > self.home.most:
            return False
        grown = <uint64_t*>PyMem_RawMalloc(room * sizeof(uint64_t))
        if grown == NULL:
            return False
        for i in range(self.count):
            grown[i] = self.at(i)
        PyMem_RawFree(self.positions)
        self.home.remembered += room - self.room
        self.positions = grown
        self.begin = 0
        self.room = room
        return True

    cdef uint32_t count_until(self, uint64_t position) noexcept:
        """How many of the remembered are not after a position."""
        cdef uint32_t low = 0, high = self.count, middle
        if high == 0 or self.at(high - 1) <= position:
            return high
        while low < high:
            middle = low + (high - low) // 2
            if self.at(middle) <= position:
                low = middle + 1
            else:
                high = middle
        return low


@cython.final
cdef class Patterns:
    """Patterns(most): of an index. All together remember `most` positions, of eight bytes each, beside a few of each."""

    def __cinit__(self, uint64_t most):
        self.listed = []
        self.version = 1
        self._changed = [None] * CHANGES
        self._root = Node()
        self._matches = {}
        self._sources, self._exact, self._templates = {}, {}, {}
        self._tried, self._lengths = {}, {}
        self.most = most
        self.least = <uint32_t>min(most, <uint64_t>LEAST)

    def matching(self, bytes name not None):
        """The patterns that a channel of that name is of, sorted."""
        return sorted([(<Pattern>pattern).name for pattern in self._texts_of(name)])

    def __contains__(self, bytes text not None):
        """Whether somebody listens to this pattern."""
        cdef Node node = self._root
        cdef bytes segment
        for segment in text.split(b":"):
            if segment == b"**":
                return node.rest is not None
            node = node.one if segment == b"*" else node.named.get(segment) if node.named is not None else None
            if node is None:
                return False
        return node.ends is not None

    # ---- coming and going -------------------------------------------------------------------------------------------

    cdef Pattern open(self, bytes text, uint64_t position):
        """The pattern of that text, which is well formed. A new one has all events after `position` from here on."""
        cdef Node node = self._root
        cdef Pattern pattern
        cdef bytes segment
        cdef bint is_rest = False
        try:
            for segment in text.split(b":"):
                if segment == b"**":
                    is_rest = True
                    break
                node = self._child(node, segment)
            pattern = node.rest if is_rest else node.ends
            if pattern is not None:
                return pattern
            pattern = Pattern.__new__(Pattern, text)
            self.listed.append(pattern)
        except BaseException:
            self._prune(node)
            raise
        pattern.home, pattern.node, pattern.is_rest = self, node, is_rest
        pattern.known = pattern.newest = pattern.last_position = pattern.born = position
        pattern.place = self.count
        self.count += 1
        self._note(pattern)
        if is_rest:
            node.rest = pattern
        else:
            node.ends = pattern
        return pattern

    cdef Pattern open_source(self, Source source, uint64_t position):
        """`open`, of what a stream with matchers listens to. Raises HubClosed where there are too many of them here."""
        cdef Pattern pattern = self._sources.get(source)
        if pattern is not None:
            return pattern
        pattern = Pattern.__new__(Pattern, b"")
        pattern.home, pattern.source = self, source
        pattern.known = pattern.newest = pattern.last_position = pattern.born = position
        pattern.place = self.count
        try:
            self._listen(pattern)
            self._sources[source] = pattern
            self.listed.append(pattern)
        except BaseException:
            self._listen_no_more(pattern)
            self._sources.pop(source, None)
            raise
        self.count += 1
        self._note(pattern)
        return pattern

    cdef int _listen(self, Pattern pattern) except -1:
        cdef Source source = pattern.source
        cdef Template template
        cdef bytes name
        for matcher in source.matchers:
            template = self._template(matcher)
            source.listening += (template,)
            if not template.listeners:
                self._try(template)
            template.listeners.add(pattern)
        for matcher in source.granted_by:
            source.granting += (self._template(matcher),)
        for name in source.names:
            self._exact.setdefault(name, set()).add(pattern)
        return 0

    cdef void _listen_no_more(self, Pattern pattern) noexcept:
        cdef Source source = pattern.source
        cdef Template template
        cdef set those
        for name in source.names:
            those = self._exact.get(name)
            if those is not None:
                those.discard(pattern)
                if not those:
                    del self._exact[name]
        for template in <tuple>source.listening:
            if pattern in template.listeners:
                template.listeners.discard(pattern)
                if not template.listeners:
                    self._try_no_more(template)
            self._release_template(template)
        for template in <tuple>source.granting:
            self._release_template(template)
        source.listening = source.granting = ()

    cdef Template _template(self, matcher):
        cdef Template template = self._templates.get(matcher)
        if template is None:
            template = Template(matcher)
            self._templates[matcher] = template
        template.uses += 1
        return template

    cdef void _release_template(self, Template template) noexcept:
        template.uses -= 1
        if template.uses == 0:
            del self._templates[template.matcher]

    cdef int _try(self, Template template) except -1:
        """Show it names. Only those by which somebody listens are: by what is only granted nothing is found."""
        cdef dict those
        if self._weight + template.weight > MOST_WEIGHT:
            raise HubClosed(
                "the streams here have as many different templates and URL patterns as names are shown to, and no more are "
                "taken; come back in a moment"
            )
        those = self._tried.get(template.literal)
        if those is None:
            those = self._tried.setdefault(template.literal, {})
            self._lengths[len(template.literal)] = self._lengths.get(len(template.literal), 0) + 1
        those[template] = None
        self._weight += template.weight
        return 0

    cdef void _try_no_more(self, Template template) noexcept:
        cdef dict those = self._tried[template.literal]
        cdef Py_ssize_t length = len(template.literal)
        self._weight -= template.weight
        del those[template]
        if those:
            return
        del self._tried[template.literal]
        self._lengths[length] -= 1
        if not self._lengths[length]:
            del self._lengths[length]

    cdef void release(self, Pattern pattern) noexcept:
        """Take a pattern out unless there are subscribers."""
        cdef Node node = pattern.node
        cdef Pattern last
        if pattern.subscribers or node is None and self._sources.get(pattern.source) is not pattern:
            return
        self.count -= 1
        last = <Pattern>PyList_GET_ITEM(self.listed, self.count)
        last.place = pattern.place
        self.listed[pattern.place] = last
        drop_last(self.listed)
        self.untold = min(self.untold, self.count)
        self._note(pattern)
        if last is not pattern:
            self._note(last)
        if node is None:
            del self._sources[pattern.source]
            self._listen_no_more(pattern)
        else:
            if pattern.is_rest:
                node.rest = None
            else:
                node.ends = None
            pattern.node = None
            self._prune(node)
        self.remembered -= pattern.room
        pattern.room = pattern.count = 0
        PyMem_RawFree(pattern.positions)
        pattern.positions = NULL

    cdef void _note(self, Pattern pattern) noexcept:
        """A pattern has come or gone, or has another place."""
        self.version += 1
        self._changed[self.version & (CHANGES - 1)] = pattern.name if pattern.source is None else pattern.source

    cdef Node _child(self, Node node, bytes segment):
        cdef Node child
        if segment == b"*":
            child = node.one
        else:
            if node.named is None:
                node.named = {}
            child = node.named.get(segment)
        if child is not None:
            return child
        child = Node()
        if segment == b"*":
            node.one = child
        else:
            child.segment = segment
            node.named[segment] = child
        child.above = node
        return child

    cdef void _prune(self, Node node) noexcept:
        """Take out a node that leads nowhere, and those above that do not then."""
        cdef Node above
        while (
            node.above is not None and not node.named and node.one is None and node.ends is None and node.rest is None
        ):
            above, node.above = node.above, None
            if node.segment is None:
                above.one = None
            else:
                del above.named[node.segment]
            node = above

    # ---- which channel is of which ----------------------------------------------------------------------------------

    cdef list of(self, bytes name):
        """The patterns that a channel of that name is of."""
        cdef list found = [] if is_hidden(name) else self._texts_of(name)
        if self._sources:
            self._sources_of(name, found)
        return found

    cdef int _sources_of(self, bytes name, list found) except -1:
        """Add those of streams with matchers: found by their exact names first, then by the templates there are. Raises
        MoreToTry."""
        cdef bint hidden = is_hidden(name)
        cdef Py_ssize_t answers, length
        cdef dict alike
        cdef set those = set()
        cdef Template template
        cdef Pattern pattern
        cdef bytes topic
        if too_many_answers():
            forget_answers(self._templates.values())
        for topic in topics_of(name) if hidden else (name,):
            exact = self._exact.get(topic)
            if exact is not None:
                those.update(exact)
            if topic[:1] == b"$":
                continue
            for length in self._lengths:
                alike = self._tried.get(topic[:length]) if length <= PyBytes_GET_SIZE(topic) else None
                if alike is None:
                    continue
                for template in alike:
                    answers = len(template.answers)
                    if template.decide(topic):
                        those.update(template.listeners)
                    self.looked += 1 if len(template.answers) == answers else NODES_A_TEMPLATE
        for pattern in those:
            if not hidden or pattern.source.may_see(name):
                found.append(pattern)
        return 0

    cdef list _texts_of(self, bytes name):
        """Those of streams with patterns."""
        cdef list found = [], nodes = [self._root], further
        cdef Node node, child
        cdef bytes segment
        cdef bint wild = name[:1] != b"$"
        for segment in name.split(b":"):
            further = []
            for node in nodes:
                self.looked += 1
                if node.named is not None:
                    child = node.named.get(segment)
                    if child is not None:
                        further.append(child)
                if wild:
                    if node.one is not None:
                        further.append(node.one)
                    if node.rest is not None:
                        found.append(node.rest)
            if not further:
                return found
            nodes = further
            wild = True
        for node in nodes:
            if node.ends is not None:
                found.append(node.ends)
        return found

    cdef int look(self, Channel channel) except -1:
        """Have a channel know which patterns it is of."""
        cdef Match match = channel.matched
        cdef list found
        cdef bytes places
        cdef uint32_t* to
        cdef uint64_t looked
        cdef Py_ssize_t i
        if match is not None and match.version == self.version:
            return 0
        if match is not None and not self._concerned(channel.name, match):
            places, looked = match.places, match.looked
        else:
            looked = self.looked
            found = self.of(channel.name)
            looked = self.looked - looked
            places = PyBytes_FromStringAndSize(NULL, PyList_GET_SIZE(found) * sizeof(uint32_t))
            to = <uint32_t*>PyBytes_AS_STRING(places)
            for i in range(PyList_GET_SIZE(found)):
                to[i] = <uint32_t>(<Pattern>PyList_GET_ITEM(found, i)).place
        looked = 1 << (int(looked) - 1).bit_length()        # about: those of much the same share one
        match = self._matches.get((places, looked))
        if match is None or match.version != self.version:
            match = Match()
            match.version = self.version
            match.places = places
            match.looked = looked
            if len(self._matches) >= MATCHES:
                self._matches.clear()
            self._matches[places, looked] = match
        channel.matched = match
        return 0

    cdef bint _concerned(self, bytes name, Match match) noexcept:
        """Whether what has changed since may be a pattern that this is of; or it is more than is worth comparing with."""
        cdef uint64_t version = match.version
        if self.version - version > min(<uint64_t>CHANGES, max(<uint64_t>FEW_CHANGES, match.looked)):
            return True
        while version < self.version:
            version += 1
            self.compared += 1
            changed = <object>PyList_GET_ITEM(self._changed, version & (CHANGES - 1))
            if type(changed) is Source:
                if (<Source>changed).concerns(name):
                    return True
            elif matches(<bytes>changed, name):
                return True
        return False

    # ---- news -------------------------------------------------------------------------------------------------------

    cdef Py_ssize_t tell(
        self, Channel channel, uint64_t position, uint64_t floor, Queue news, bint is_private
    ) noexcept:
        """A channel that has looked got an event: to its patterns that is news. Returns how many they are. `is_private`: a
        private one, of which streams with matchers are told by its hidden name."""
        cdef bytes places = channel.matched.places
        cdef const uint32_t* place = <const uint32_t*>PyBytes_AS_STRING(places)
        cdef Py_ssize_t count = PyBytes_GET_SIZE(places) // <Py_ssize_t>sizeof(uint32_t), i
        cdef Pattern pattern
        for i in range(count):
            pattern = <Pattern>PyList_GET_ITEM(self.listed, place[i])
            if is_private and pattern.source is not None and not is_hidden(channel.name):
                continue
            pattern.add(position, floor)
            news.push(pattern)
        return count

    cdef void forget(self, Channel channel, uint64_t at) noexcept:
        """A channel that has looked has forgotten all up to what is evicted of it."""
        cdef bytes places = channel.matched.places
        cdef const uint32_t* place = <const uint32_t*>PyBytes_AS_STRING(places)
        cdef Pattern pattern
        cdef Py_ssize_t i
        for i in range(PyBytes_GET_SIZE(places) // <Py_ssize_t>sizeof(uint32_t)):
            pattern = <Pattern>PyList_GET_ITEM(self.listed, place[i])
            pattern.forgot = max(pattern.forgot, channel.evicted)
            pattern.forgot_at = at

    cdef void tell_next_of_hole(self, uint64_t position, Queue news) noexcept:
        """Let the next of those `untold` know of a hole up to there. From the last to the first, as channels."""
        cdef Pattern pattern
        self.untold -= 1
        pattern = <Pattern>PyList_GET_ITEM(self.listed, self.untold)
        pattern.last_position = max(pattern.last_position, position)
        news.push(pattern)
