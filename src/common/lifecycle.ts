type Release = () => unknown;

/**
 * Releases registered right after what they release was acquired, run in reverse order, once.
 * The subset of the standard's `AsyncDisposableStack` that we use; Node 20 has no such class.
 */
export class ReleaseStack implements AsyncDisposable {
  #releases: Release[] = [];
  #disposing: Promise<void> | undefined;

  /** Runs `release` at disposal. Registering on a disposed stack is a programming error. */
  defer(release: Release): void {
    if (this.#disposing) throw new Error("this stack is disposed already");
    this.#releases.push(release);
  }

  /** Disposes `resource` at disposal; returns it. */
  use<T extends AsyncDisposable | Disposable>(resource: T): T {
    this.defer(() => (Symbol.asyncDispose in resource ? resource[Symbol.asyncDispose]() : resource[Symbol.dispose]()));
    return resource;
  }

  /** Hands every release over to a new stack: what was acquired outlives this one. */
  move(): ReleaseStack {
    const moved = new ReleaseStack();
    moved.#releases = this.#releases;
    this.#releases = [];
    return moved;
  }

  /** Every release runs, whatever the others did; the first error is thrown at the end. Twice is the same as once. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#disposing ??= this.#dispose();
    return this.#disposing;
  }

  async #dispose(): Promise<void> {
    const errors: unknown[] = [];
    for (const release of this.#releases.splice(0).reverse()) {
      try {
        await release();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}

/** A promise and its settlers. (`Promise.withResolvers` needs Node 22.) */
export class Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T | PromiseLike<T>) => void;
  readonly reject: (reason: unknown) => void;

  constructor() {
    let settlers: [(value: T | PromiseLike<T>) => void, (reason: unknown) => void] | undefined;
    this.promise = new Promise<T>((resolve, reject) => {
      settlers = [resolve, reject];
    });
    // A promise's executor runs at once.
    [this.resolve, this.reject] = settlers ?? [() => undefined, () => undefined];
  }
}
