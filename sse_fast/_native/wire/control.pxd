# What a stream says of itself, for C callers.

cpdef bytes preamble(object milliseconds)
cpdef bytes connected(str resume, str id, bint enveloped=*, tuple left_out=*)
cpdef bytes gap(str after, str until, bint with_id=*)
cpdef bytes forgotten(str channel)
cpdef bytes expiring(long long seconds)
cpdef bytes closing(str reason, object milliseconds=*)
