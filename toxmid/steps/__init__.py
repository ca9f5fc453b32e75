"""The state machines of the core, one a file: a C struct and the `noexcept nogil` step that advances it.

Nothing here can be called from Python. `toxmid._core` compiles these files into the engine, and `toxmid._trades`
the one that signs trades into the array face that spreads need.
"""
