"""Sign a frozen set: one in-toto statement over replica.json and provenance.json, in a DSSE envelope. Works offline.

The signature is a file below SET/signatures; no id changes. `caskit verify SET --trusted-keys FILE` checks it.
--new-key makes an Ed25519 key pair; any PEM key of openssl's (Ed25519, ECDSA over P-256, P-384 or P-521) will do. An
encrypted key is opened with the password in CASKIT_KEY_PASSWORD.
"""

import argparse
from pathlib import Path

from caskit.commands.options import Context
from caskit.commands.sets import reference_text
from caskit.console import print_line

EXAMPLE = "caskit sign runs/digits/first --key lab.pem"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("set", metavar="SET", nargs="?", help="PATH_OR_URL[@sha256:prefix]")
    keys = parser.add_mutually_exclusive_group(required=True)
    keys.add_argument("--key", metavar="FILE", help="private key, PEM")
    keys.add_argument("--new-key", metavar="FILE", help="make a key: FILE, and FILE.pub to give to others")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Make a key, or sign."""
    from caskit.manifests.errors import InputError
    from caskit.manifests.sets import SetReference
    from caskit.shards import keys
    from caskit.shards.records import read_replica
    from caskit.shards.signatures import sign
    from caskit.shards.store import open_store

    if arguments.new_key is not None:
        if arguments.set is not None:
            raise InputError("--new-key makes a key and signs nothing: leave out SET, then sign it with --key")
        public, keyid = keys.generate(Path(arguments.new_key))
        print_line(f"{arguments.new_key}: private key {keyid[:16]}, keep it to yourself")
        print_line(f"{public}: its public key, for those who are to trust it")
        return 0
    if arguments.set is None:
        raise InputError("which set? caskit sign SET --key FILE")
    reference = SetReference.parse(arguments.set)
    store = open_store(reference.location)
    replica = read_replica(store)
    reference.check(replica.replica_id)
    signer = keys.read_signer(Path(arguments.key))
    name = sign(store, signer)
    print_line(reference_text(store.location, replica.replica_id))
    print_line(f"signed by key {signer.public_key.keyid[:16]}: {name}")
    return 0
