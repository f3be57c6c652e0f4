# The encoder for other native code: `encode` without its keywords. It stores nothing and holds no reference.

cdef bytes frame_of(object data, object event, object id, object retry, object comment)
