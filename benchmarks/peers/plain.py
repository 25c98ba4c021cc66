"""One process, without anything parallel."""

from loop import networks, options, train

if __name__ == "__main__":
    given = options()
    players = networks(given.config, tuple(given.images.shape[1:]))
    G, D = (each.to(given.device) for each in players)
    train(given, G, D, D, rank=0, count=1)
