"""The standalone identity's tables: who there is, who has which role where, and live tokens.

No secret is kept: passwords and application credentials' secrets as Argon2 hashes, tokens as
SHA-256 digests (they are random and long). What ends with its owner is deleted by the database.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKey,
    String,
    Table,
    UniqueConstraint,
)

from trunkline.db.tables import ID, NAME, TIME, metadata

HASH = String(255)  # Argon2's encoded form, parameters and salt included

domains = Table(
    "domains",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", NAME, nullable=False, unique=True),
    Column("description", NAME, nullable=False),
    Column("enabled", Boolean, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", ID, primary_key=True),
    Column("domain_id", ID, ForeignKey("domains.id", ondelete="CASCADE"), nullable=False),
    Column("name", NAME, nullable=False),
    Column("description", NAME, nullable=False),
    Column("enabled", Boolean, nullable=False),
    UniqueConstraint("domain_id", "name"),
)

users = Table(
    "users",
    metadata,
    Column("id", ID, primary_key=True),
    Column("domain_id", ID, ForeignKey("domains.id", ondelete="CASCADE"), nullable=False),
    Column("name", NAME, nullable=False),
    Column("description", NAME, nullable=False),
    Column("email", NAME, nullable=True),
    Column("default_project_id", NAME, nullable=True),
    Column("enabled", Boolean, nullable=False),
    Column("password_hash", HASH, nullable=True),  # null: nobody logs in by a password
    UniqueConstraint("domain_id", "name"),
)

roles = Table(
    "roles",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", NAME, nullable=False, unique=True),
    Column("description", NAME, nullable=False),
)

role_assignments = Table(
    "role_assignments",
    metadata,
    Column("user_id", ID, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "project_id",
        ID,
        ForeignKey("projects.id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
    Column("role_id", ID, ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True, index=True),
)

application_credentials = Table(
    "application_credentials",
    metadata,
    Column("id", ID, primary_key=True),
    Column("user_id", ID, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column(
        "project_id",
        ID,
        ForeignKey("projects.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("name", NAME, nullable=False),
    Column("description", NAME, nullable=False),
    Column("secret_hash", HASH, nullable=False),
    Column("expires_at", TIME, nullable=True),
    Column("unrestricted", Boolean, nullable=False),
    UniqueConstraint("user_id", "name"),
)

credential_roles = Table(
    "credential_roles",
    metadata,
    Column(
        "application_credential_id",
        ID,
        ForeignKey("application_credentials.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("role_id", ID, ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True, index=True),
)

tokens = Table(
    "tokens",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("user_id", ID, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column(
        "project_id", ID, ForeignKey("projects.id", ondelete="CASCADE"), nullable=True, index=True
    ),
    Column(
        "application_credential_id",
        ID,
        ForeignKey("application_credentials.id", ondelete="CASCADE"),
        nullable=True,
        index=True,
    ),
    Column("methods", JSON, nullable=False),
    Column("audit_ids", JSON, nullable=False),
    Column("issued_at", TIME, nullable=False),
    Column("expires_at", TIME, nullable=False, index=True),
)
