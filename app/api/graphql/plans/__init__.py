"""Compiled plans: queries as fast as routes written by hand, with the ordinary executor's answers.

    document ── compiler ──► Plan ── run, in one read ──► statements ──► rows ──► dicts ──► bytes
      once a document,        a tree of Selections          one a level,           orjson,
      operation and           of Fields, as the types       for all rows           as of any
      @skip/@include          declare them (app.api.reads)  of the level at once   other answer

The ordinary executor calls a resolver for each field of each row. A plan goes the other way: level
by level, and on each level field by field for all rows. A Field makes a column of values of a list
of rows; what has to be read first is gathered over the whole level and read in one statement for
each kind of read, with no more columns than the plan tells of; what comes of that are the rows of
the next level.

The declarations are the resolvers' own. Nothing is decided here that is decided there, and a plan
knows no errors: where anything at all goes wrong (a cursor of another list, a null that must not
be, a bug) it gives up, and the ordinary executor, which has to be right anyway, answers from the
start. The same goes for operations with a field that is declared as ordinary.

`compiler` makes plans, `plan` is what they consist of, `values` completes what fields give, `run`
executes them.
"""
