"""The sockets that this project owns: connections and their listener."""
