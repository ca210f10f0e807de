"""The image, run: built, started, stopped, composed. Apart from the other tests: ``make image-test``.

A Docker engine that answers is used, with the official images as far as it can have them. Where there is none, root
gets one for the time of the tests (:mod:`tests.image.box`), and images that can't be pulled are made here under the
same names (:mod:`tests.image.images`): stand-ins, and called so in the report at the end.
"""
