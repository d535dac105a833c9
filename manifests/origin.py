"""The record that says where a set came from, by the kind of the set; the first file of every set."""

from caskit.manifests.imported import Import
from caskit.manifests.ingest import Ingest
from caskit.manifests.plan import Plan
from caskit.manifests.reconstruction import Reconstruction
from caskit.manifests.view import View

Origin = Plan | Ingest | Reconstruction | Import | View
# A record's class knows the KIND of its sets, the FILE it is stored in, and its own digest, `origin_id`.
ORIGINS: dict[str, type[Origin]] = {record.KIND: record for record in (Plan, Ingest, Reconstruction, Import, View)}
ORIGIN_FILES: dict[str, str] = {kind: record.FILE for kind, record in ORIGINS.items()}
