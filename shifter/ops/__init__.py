"""Operations: health of a deployment, state of a namespace, overrides by hand.

The command line calls this package, and so can a page, a scaler or a test.
"""
