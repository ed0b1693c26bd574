"""What all figures stand on: deals as arrays, groups, periods, money, scope, basis, and what a figure is.

Figures in pieces
-----------------
Deals that do not fit into memory, or lie on several machines, are worked out in
pieces. For a figure that can be merged (``figure.gather`` is not None)::

    parts = (figure.partial(piece, context=context, **options) for piece in pieces)
    result = figure.merge(parts, context=context, **options)

equals ``figure(frame, context=context, **options)`` where the pieces are all rows
of the frame, each in one piece: the call on a frame is the case of one piece. A
part is small (cells, not rows), plain data, and can be pickled. `combine_parts`
makes one part of several at any time, in any order, as a tree or as a running sum:

    part = combine_parts([part, figure.partial(piece, context=context, **options)])

A figure that must know something of all deals first (``figure.survey`` is not None, as with
the usual amount and the longest cycle in `hygiene`) takes two passes::

    survey = combine_parts([figure.partial_survey(piece, context=context, **options) for piece in pieces])
    parts = (figure.partial(piece, context=context, survey=survey, **options) for piece in pieces)

The context must be the same for all pieces (stages, ``as_of``, time zone, look-ups,
definitions), and the options, too. Where rates are given and some amounts name no
currency, state ``currency=``: a piece cannot know what the others name. A piece
needs the columns that the figure needs; pieces without rows are welcome.
"""
