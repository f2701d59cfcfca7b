"""All that the synthetic corpus can say, from the tables of its grammar."""

from common.datasets import grammar


def all_words(words_per_class: int | None = None) -> tuple[str, ...]:
    """Every word the grammar can say, sorted; possessives left out."""
    literal = {
        token
        for productions in grammar._productions().values()
        for tokens in productions[0]
        for token in tokens
        if token.islower() and token not in grammar.CLITICS
    }
    classes = (entries for entries, _ in grammar._classes(words_per_class).values())
    return tuple(sorted(literal.union({"an", "don't", "can't"}, *classes) - {"ca"}))
