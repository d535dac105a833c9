"""A frozen set described in MLCommons Croissant 1.1 (http://mlcommons.org/croissant/1.1)."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from caskit.manifests.codec import EXTENSIONS
from caskit.manifests.imported import Import
from caskit.manifests.ingest import Ingest
from caskit.manifests.reconstruction import Reconstruction
from caskit.manifests.replica import Replica
from caskit.manifests.rows import ROW_SCHEMA
from caskit.manifests.view import Whole as Origin

# Appendix 1 of the specification, and what its reference implementation (mlcroissant 1.1) asks for besides.
_CROISSANT_TERMS = (
    "annotation arrayShape citeAs column containedIn equivalentProperty excludes extract field fileProperty fileObject "
    "fileSet format includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex "
    "readLines repeated replace samplingRate sdVersion separator source subField transform unArchive value"
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    **{term: f"cr:{term}" for term in _CROISSANT_TERMS.split()},
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}
_MEDIA_TYPES = {"json": "application/json", "parquet": "application/x-parquet", "tar": "application/x-tar"}
TITLES = {
    "synthetic": "Synthetic images",
    "real": "Real images",
    "reconstruction": "Reconstructions of real images",
    "imported": "Imported images",
}
IMAGE_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}


def describe_set(
    replica: Replica,
    origin: Origin,
    provenance: Mapping[str, Any],
    *,
    name: str,
    digests: Mapping[str, str],
    sizes: Mapping[str, int],
) -> dict[str, Any]:
    """Return the contents of croissant.json.

    What only a publisher can know (`url`, `creator`, `licence`) is taken from provenance.json; where it is silent, the
    URL is a URN of the identity and the others say that they are not stated.

    Args:
        replica: replica.json.
        origin: plan.json, or the record that stands for it.
        provenance: provenance.json.
        name: the set's short name.
        digests: SHA-256 of every file, by name.
        sizes: bytes of every file, by name.
    """
    licence = provenance.get("licence")
    description = (
        f"{TITLES[replica.kind]}, {replica.num_samples} of {replica.num_classes} "
        f"classes. Identity (replica_id): sha256:{replica.replica_id}."
    )
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": name,
        "description": description,
        "identifier": f"sha256:{replica.replica_id}",
        "url": str(provenance.get("url") or f"urn:sha256:{replica.replica_id}"),
        "license": str(licence) if licence else {"@type": "sc:CreativeWork", "name": "not stated"},
        "creator": {"@type": "sc:Organization", "name": str(provenance.get("creator") or "not stated")},
        "datePublished": str(provenance.get("created") or "not stated"),
        "version": "1.0.0",
        "isLiveDataset": False,
        "keywords": ["image classification", replica.kind, "caskit"],
        **_generation(origin),
        "distribution": _distribution(origin, digests, sizes),
        "recordSet": [_classes(origin), _manifest(), _samples()],
    }


def _generation(origin: Origin) -> dict[str, Any]:
    if isinstance(origin, Ingest):
        return {}
    if isinstance(origin, Import):
        label = f"import of a source of form {origin.form}, sha256:{origin.source_sha256}; how it was made is not known"
        return {"prov:wasGeneratedBy": {"@type": "prov:Activity", "prov:label": label}}
    if isinstance(origin, Reconstruction):
        label = (
            f"reconstruction by {origin.family}:{origin.preset}, checkpoint sha256:{origin.checkpoint_id}, of "
            f"{origin.parent.dataset} {origin.parent.split}, replica_id sha256:{origin.parent.replica_id}"
        )
        return {"prov:wasGeneratedBy": {"@type": "prov:Activity", "prov:label": label}}
    label = f"sampling of {origin.family}:{origin.preset}, checkpoint sha256:{origin.checkpoint_id}, seed {origin.seed}"
    if origin.rejection is not None:
        chosen = origin.rejection.words.replace(" candidates", "")  # the words that such sets always had here
        label += f", {chosen} by classifier sha256:{origin.rejection.classifier_id}"
    return {"prov:wasGeneratedBy": {"@type": "prov:Activity", "prov:label": label}}


def _distribution(origin: Origin, digests: Mapping[str, str], sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = [
        {
            "@type": "cr:FileObject",
            "@id": file,
            "name": file,
            "contentUrl": file,
            "contentSize": f"{sizes[file]} B",
            "encodingFormat": _MEDIA_TYPES[file.rpartition(".")[2]],
            "sha256": digests[file],
        }
        for file in sorted(digests)
    ]
    tars = [{"@id": file} for file in sorted(digests) if file.endswith(".tar")]
    extensions = _extensions(origin)
    files.append(
        {
            "@type": "cr:FileSet",
            "@id": "images",
            "description": "The images inside the tars.",
            "containedIn": tars,
            "encodingFormat": [IMAGE_TYPES[extension] for extension in extensions],
            "includes": [f"*.{extension}" for extension in extensions],
        }
    )
    return files


def _extensions(origin: Origin) -> list[str]:
    name = str(origin.codec.get("name")) if isinstance(origin, Ingest | Import) else origin.codec.name
    return [EXTENSIONS[name]] if name in EXTENSIONS else list(IMAGE_TYPES)


def _classes(origin: Origin) -> dict[str, Any]:
    def field(name: str, data_type: str) -> dict[str, Any]:
        return {"@type": "cr:Field", "@id": f"classes/{name}", "name": name, "dataType": data_type}

    rows = zip(origin.classes.ids, origin.classes.names, strict=True)
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/label"},
        "field": [field("label", "sc:Integer"), field("id", "sc:Text"), field("name", "sc:Text")],
        "data": [
            {"classes/label": label, "classes/id": class_id, "classes/name": name}
            for label, (class_id, name) in enumerate(rows)
        ],
    }


def _manifest() -> dict[str, Any]:
    fields = []
    for column in ROW_SCHEMA:
        field: dict[str, Any] = {
            "@type": "cr:Field",
            "@id": f"manifest/{column.name}",
            "name": column.name,
            "dataType": _data_type(column),
            "source": _column(column.name),
        }
        if column.name == "label":
            field["references"] = {"field": {"@id": "classes/label"}}
        fields.append(field)
    return {
        "@type": "cr:RecordSet",
        "@id": "manifest",
        "name": "manifest",
        "description": "One row per sample, sorted by (label, ordinal).",
        "key": {"@id": "manifest/key"},
        "field": fields,
    }


def _column(name: str) -> dict[str, Any]:
    """Return a column of the manifest as a source."""
    return {"fileObject": {"@id": "manifest.parquet"}, "extract": {"column": name}}


def _data_type(column: pa.Field) -> Any:
    if column.name == "label":
        return ["sc:Integer", "cr:Label"]
    if pa.types.is_integer(column.type):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(column.type) else "sc:Text"


def _samples() -> dict[str, Any]:
    images = {"fileSet": {"@id": "images"}}
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "One record per image, with its label; all else stands in the manifest's row of its key.",
        "key": {"@id": "samples/key"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": "samples/key",
                "name": "key",
                "dataType": "sc:Text",
                "source": {
                    **images,
                    "extract": {"fileProperty": "filename"},
                    "transform": {"regex": "^([^.]+)"},
                },
                "references": _column("key"),
            },
            {
                "@type": "cr:Field",
                "@id": "samples/image",
                "name": "image",
                "dataType": "sc:ImageObject",
                "source": {**images, "extract": {"fileProperty": "content"}},
            },
            {
                "@type": "cr:Field",
                "@id": "samples/label",
                "name": "label",
                "dataType": ["sc:Integer", "cr:Label"],
                "source": _column("label"),
                "references": {"field": {"@id": "classes/label"}},
            },
        ],
    }
