"""`shifter top`: the state of a namespace on a whole terminal, with keys.

``verb`` runs it, ``keyboard`` reads keys, ``state`` holds what the operator has chosen,
``screen`` and ``table`` make lines of text of it.
"""
