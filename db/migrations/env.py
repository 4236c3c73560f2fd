"""Runs revisions on the connection that db.migrate hands over, all in its one transaction."""

from __future__ import annotations

from alembic import context

from db.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite's DDL is transactional as long as the driver does not commit behind one's back; db.engine sees to that.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
