"""Getting weights to sites so that a site need trust only a pinned root key.

Belongs here: the TUF repository (keys, signing, publishing) and the push of its files to a site's inbox. Does
not: what is worth delivering (:mod:`xapp.updates`), verification at the site (the runtime's side).
"""
