"""One process, without anything parallel."""

from loop import networks, options, train

if __name__ == "__main__":
    given = options()
    G, D = networks(given.config, tuple(given.images.shape[1:]))
    train(given, G, D, D, rank=0, count=1)
