"""What the xApp knows about users: one struct-of-arrays table.

Belongs here: folding indications, capabilities and quality reports into the table, range checks, ageing.
Does not: decoding of bytes (:mod:`xapp.ric`), decisions (:mod:`xapp.policy`), network I/O.
"""
