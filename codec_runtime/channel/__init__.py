"""The radio channel between encoder and decoder: power normalisation, noise, fading, OFDM, impairments.

Belongs here: textbook channel models on complex baseband symbols and the receiver's part that has no weights
(channel estimation, equalisation). Does not: anything that learns. :mod:`codec_runtime.channel.modes` names
every model.
"""
