"""The official archives: where each lies, its size, its checksums, and how much it may unpack to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Source:
    """One dataset's archive as its publisher offers it.

    Attributes
    ----------
    name : str
        The dataset, as `mlptheory.data.load` knows it.
    url : str
        Where the publisher has it; its last part is the archive's file name.
    size : int
        Bytes of the archive.
    checksums : dict
        From an algorithm of `hashlib` to hexadecimal digits; all must agree.
    folder : str
        What it unpacks to.
    other_folders : tuple of str
        Folders that hold the same data in another form.
    most_bytes, most_members : int
        Bounds on what it unpacks to: limits, not claims.
    """

    name: str
    url: str
    size: int
    checksums: dict[str, str]
    folder: str
    other_folders: tuple[str, ...] = ()
    most_bytes: int
    most_members: int

    @property
    def filename(self) -> str:
        """File name of the archive."""
        return self.url.rpartition("/")[2]


# MD5 of CIFAR as on https://www.cs.toronto.edu/~kriz/cifar.html, of STL-10 as in torchvision/datasets/stl10.py.
# Anyone can make two files of one MD5. Sizes and SHA-256, of these very addresses, are those that TensorFlow Datasets
# keeps in url_checksums/{cifar10,cifar100,stl10}.txt. For Tiny ImageNet neither has any: its MD5 and size are those
# that users of the address have recorded, all the same.
SOURCES = {
    source.name: source
    for source in (
        Source(
            name="cifar10",
            url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            size=170_052_171,
            checksums={
                "md5": "c32a1d4ab5d03f1284b67883e8d87530",
                "sha256": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            },
            folder="cifar-10-batches-bin",
            other_folders=("cifar-10-batches-py",),
            most_bytes=200_000_000,
            most_members=100,
        ),
        Source(
            name="cifar100",
            url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            size=168_513_733,
            checksums={
                "md5": "03b5dce01913d631647c71ecec9e9cb8",
                "sha256": "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            },
            folder="cifar-100-binary",
            other_folders=("cifar-100-python",),
            most_bytes=200_000_000,
            most_members=100,
        ),
        Source(
            name="stl10",
            url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
            size=2_640_397_119,
            checksums={
                "md5": "91f7769df0f17e558f3565bffb0c7dfb",
                "sha256": "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
            },
            folder="stl10_binary",
            most_bytes=3_300_000_000,
            most_members=100,
        ),
        Source(
            name="tinyimagenet",
            url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            size=248_100_043,
            checksums={"md5": "90528d7ca1a48142e341f4ef8d21d0de"},
            folder="tiny-imagenet-200",
            most_bytes=1_000_000_000,
            most_members=200_000,
        ),
    )
}
