"""What a set of weights is on disk and how a site comes to trust one.

Belongs here: making bundles (:mod:`.creation`, :mod:`.layout`), writing and strictly reading their
directories (:mod:`.store`), int8 storage and deltas, comparing and checking them, the inbox that the xApp
puts TUF files into (:mod:`.inbox`) and their verification (:mod:`.trust`). Does not: serving (which bundle
answers a request), signing (the xApp's part), or the manifest itself (:mod:`codec_runtime.contract.bundle`).
"""
