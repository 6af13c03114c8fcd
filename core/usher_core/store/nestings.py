"""Groups within groups, as SQL: who belongs to a group through others, and to which groups so.

`resources`, `places` and `lookups` build on these, over `resources r`. Nothing of it is stored. UNION lets
each group in once, so a walk ends where groups hold each other in a circle. No step leaves the planner a
choice: it knows nothing of what a walk finds, and each group on the way is looked up by its id.
"""

from __future__ import annotations

from typing import Final

# Whether the tenant has groups within groups at all. Most have none, and then nobody walks.
ARE_THERE: Final = "EXISTS (SELECT FROM members n WHERE n.tenant = r.tenant AND n.member_type = 'Group')"

# The ids of the groups that a resource is in itself.
DIRECT: Final = "SELECT m.group_id FROM effective_members m WHERE m.tenant = r.tenant AND m.member_id = r.id"
# The ids of the groups that hold a resource through others only: one that it is in itself is direct.
INDIRECT: Final = f"""(
    WITH RECURSIVE above (id) AS (
        {DIRECT}
         UNION
        SELECT m.group_id
          FROM above CROSS JOIN LATERAL (
               SELECT m.group_id FROM effective_members m
                WHERE m.tenant = r.tenant AND m.member_id = above.id
               OFFSET 0) m)
    SELECT above.id FROM above WHERE above.id NOT IN ({DIRECT}))"""  # noqa: S608 - built of constants

# The ids of all that belong to a group, through whichever groups; the parameters are the group and the tenant
# twice.
BELONGING: Final = """
    WITH RECURSIVE below (id) AS (
        SELECT %s::uuid
         UNION
        SELECT m.member_id
          FROM below CROSS JOIN LATERAL (
               SELECT m.member_id FROM effective_members m
                WHERE m.tenant = %s AND m.group_id = below.id AND m.member_type = 'Group'
               OFFSET 0) m)
    SELECT m.member_id
      FROM below CROSS JOIN LATERAL (
           SELECT m.member_id FROM effective_members m
            WHERE m.tenant = %s AND m.group_id = below.id
           OFFSET 0) m"""
