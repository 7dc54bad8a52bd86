"""Installs one requirement into the workspace's package volume, as a transaction.

Runs in a container of its own: no network, the workspace read-only or not there, the volume writable, the host's index
proxy behind `egress.sock`. The volume holds generations (`gen-<n>`) and a link `current` to the newest complete one:

1. a *view* is made beside them, a virtual environment that holds the metadata of everything installed (the image's
   distributions and the current generation's), so that uv resolves as if all of it were in one place;
2. uv installs into the view, the image's distributions being constraints, so only what is missing arrives there;
3. what arrived is cleaned, compiled and merged into a copy of the current generation, made of hard links;
4. `current` is switched by rename. Until then the volume is as it was, whatever ends this process.

The previous generation stays, because running kernels may still import from it.

What has no wheel must be built, by foreign code. That happens in another container, for which the volume is read-only
and a scratch is there to write: steps 1 and 2, and what arrived stays in the scratch. A third container copies it from
there, as hostile data, and goes on with step 3.
"""
