"""Staged roll-out of a decoder version to the users of a group, with gates, automatic rollback and history.

Belongs here: which users go first (:mod:`plan`), when measured quality is enough evidence (:mod:`sequential`,
:mod:`gates`), the state machine of a roll-out (:mod:`state`, :mod:`moves`), its I/O (:mod:`driver`,
:mod:`actions`) and what an operator asks of it (:mod:`api`, :mod:`admin`). Does not: training and judging
a candidate off-line (:mod:`xapp.updates`), how files travel (:mod:`xapp.delivery`).
"""
