"""The user's side: a device that classifies pictures together with its site.

Belongs here: what runs on the device: fetching and verifying heads, running them, sending features,
following directives, reporting. Does not: what the site does with it (:mod:`codec_runtime.serving`), or where
it is best to cut (the xApp). Start with :func:`codec_runtime.client.session.classifying`.
"""
