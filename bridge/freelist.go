package bridge

import "sync"

// freelist keeps things for reuse. A sync.Pool would be emptied by every garbage
// collection, and the buffers of batches, which are large and last for
// milliseconds, would be most of what is collected.
type freelist[T any] struct {
	mu   sync.Mutex
	free []*T
}

// kept is how many unused things a freelist holds on to.
const kept = 8

func (l *freelist[T]) get() *T {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.free); n > 0 {
		t := l.free[n-1]
		l.free = l.free[:n-1]
		return t
	}
	return new(T)
}

func (l *freelist[T]) put(t *T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) < kept {
		l.free = append(l.free, t)
	}
}
