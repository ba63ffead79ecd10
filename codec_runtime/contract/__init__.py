"""What the xApp and the codec runtime must agree on, defined once and typed.

Belongs here: MessagePack messages, the bundle manifest, URL paths, and the two operating conventions both
processes share (how settings are read, what a log line looks like). Does not: behaviour, network I/O, or
anything that imports torch or numpy; `import xapp` loads this package.
"""
