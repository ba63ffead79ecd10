"""What the xApp knows about users: one struct-of-arrays table.

Belongs here: folding indications, capabilities and quality reports into the table, range checks, ageing, how
far each source of the SINR is to be believed. Does not: decoding of bytes and the meaning of a base
station's measurement names (:mod:`xapp.ric`), decisions (:mod:`xapp.policy`), network I/O.
"""
