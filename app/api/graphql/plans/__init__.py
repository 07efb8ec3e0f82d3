"""Compiled plans: the reference executor's responses, as fast as handwritten routes.

    document ── compiler ──► Plan ── run, in one read ──► statements ──► rows ──► dicts ──► bytes
      once per document,      a tree of Selections          one per level         orjson,
      operation and           of PlanFields, by the         and read, for all     as any other
      @skip/@include          kinds (fields)                rows of the level     response

The reference executor, graphql-core's, calls a resolver per field and row. A plan works level by
level, and within a level field by field for all rows: a column computes a field's values for a list
of rows. Keys to load are collected over the whole level and loaded with one statement per kind of
read, projected to the columns that the plan requires. The loaded rows are the next level's.

The kind of a field (app.api.graphql.fields) has both its resolver and its column, so no rule is
written twice. A plan does not report errors: if anything goes wrong (a cursor of another list, a
null in a non-null field, a bug) it gives up, and the reference executor, whose response is
authoritative, runs the operation from the start. Root fields of a query without a plan, such as
those that contain a ReferenceField, run in the reference executor, and their neighbours by plan.

The plan of a mutation's field has the payload as its root, and that of a subscription the event.

`compiler` builds plans, `plan` has their parts, `completion` completes values by the field's type,
`run` executes plans, `events` executes them for events, `planner` caches them.
"""
