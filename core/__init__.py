from ._moved import keep_paths

keep_paths(__name__, {"recognition": "people.recogniser"})
