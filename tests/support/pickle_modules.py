"""What a pickle would import, read without running it."""

import pickletools
import zipfile


def modules_in(path):
    """Module (and, where they are pushed apart, class) names of a torch file's pickle."""
    found, strings = set(), []
    with zipfile.ZipFile(path) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("data.pkl")]
        for opcode, argument, _ in pickletools.genops(archive.read(name)):
            if opcode.name == "GLOBAL":
                found.add(argument.split(" ")[0])
            elif opcode.name == "STACK_GLOBAL":
                found.update(strings[-2:])
            elif isinstance(argument, str):
                strings.append(argument)
    return found
