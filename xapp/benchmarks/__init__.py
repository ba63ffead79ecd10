"""Ratios of what the xApp does against named references, measured interleaved in one run.

Belongs here: the reference syntax and its compilation by generic ASN.1 compilers, and the measurements behind
``semcom bench``. Does not: anything the xApp needs to run; nothing here is imported by it.
"""
