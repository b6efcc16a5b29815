"""A model together with what turns words, images and sound into its inputs."""

from headwise.subject.subject import Subject, load, unwrap, wrap

__all__ = ["Subject", "load", "unwrap", "wrap"]
