"""The audit of a replica by someone who does not trust its maker: folder and checkpoint are all it needs."""

from caskit.gen.audit.config import AuditConfig, Selection
from caskit.gen.audit.report import AuditReport, Failure
from caskit.gen.audit.running import AuditProgress, audit
from caskit.gen.audit.sheet import audit_sheet

__all__ = ["AuditConfig", "AuditProgress", "AuditReport", "Failure", "Selection", "audit", "audit_sheet"]
