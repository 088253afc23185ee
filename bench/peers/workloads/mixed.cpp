// Mixed sizes, several threads, and work whose time is in many short-lived small objects: what allocation benchmarks are made of.
#include "work.hpp"

namespace work {
namespace {

// ---- sizes of all kinds, some freed by another thread --------------------------------------------------------------------------------

constexpr size_t nr_crossing = 256;

/// An object says itself how large it is and what it holds.
struct header {
  uint32_t size, sum;
};

char* make(random_numbers& r, size_t low, unsigned octaves) {
  const size_t base = low << r.below(octaves);
  const size_t size = base + r.below(base);
  char* const p = take(size);
  const header h{static_cast<uint32_t>(size), static_cast<uint32_t>(size * 2654435761u)};
  memcpy(p, &h, sizeof h);
  p[size - 1] = static_cast<char>(h.sum);
  return p;
}

void unmake(char* p) {
  if (p == nullptr) return;
  header h;
  memcpy(&h, p, sizeof h);
  if (h.sum != static_cast<uint32_t>(h.size * 2654435761u)) wrong("an object's head changed", h.size * 2654435761u, h.sum);
  const auto last = static_cast<unsigned char>(p[h.size - 1]);
  if (last != (h.sum & 255)) wrong("an object's last byte changed", h.sum & 255, last);
  free(p);
}

struct crosser {
  std::atomic<char*>* crossing = nullptr;
  char** own = nullptr;
  size_t slots = 0;
  uint64_t seed = 0, n = 0;
};

/// 16 bytes to 16 KiB; of the objects one in eight is exchanged with the other threads, who free it.
void cross_work(void* argument) {
  auto& self = *static_cast<crosser*>(argument);
  random_numbers r(self.seed);
  for (uint64_t i = 0; i < self.n; ++i) {
    char* const p = make(r, 16, 10);
    if (r.below(8) == 0) {
      unmake(self.crossing[r.below(nr_crossing)].exchange(p, std::memory_order_acq_rel));
      continue;
    }
    char*& slot = self.own[r.below(self.slots)];
    unmake(slot);
    slot = p;
  }
  for (size_t i = 0; i < self.slots; ++i) unmake(self.own[i]);
}

void cross() {
  const auto threads = static_cast<unsigned>(parameter("threads", 2));
  const size_t slots = parameter("slots", 2000);
  const uint64_t each = parameter("n", 1000) / threads + 1;
  auto* const crossing = table<std::atomic<char*>>(nr_crossing);
  auto* const crossers = table<crosser>(threads);
  for (unsigned i = 0; i < threads; ++i) crossers[i] = {crossing, table<char*>(slots), slots, i + 1u, each};
  verify_sizes(16, 16384);
  meter m;
  on_threads(crossers, threads, cross_work, m, each * threads);
  for (size_t i = 0; i < nr_crossing; ++i) unmake(crossing[i].load());
  report_rest();
}

// ---- lifetimes that overlap ----------------------------------------------------------------------------------------------------------

struct overlapper {
  char** objects = nullptr;
  size_t slots = 0;
  uint64_t seed = 0, n = 0;
};

/// Rounds of one size after another up to 1000 bytes: a ring of live objects of which each round frees the oldest, some of the newest too.
void overlap_work(void* argument) {
  auto& self = *static_cast<overlapper*>(argument);
  size_t at = 0;
  for (uint64_t i = 0; i < self.n;) {
    const size_t size = 8 + (self.seed * 61 + i / 50 * 37) % 993;
    char* fresh[50];
    for (char*& p : fresh) {
      p = take(size);
      stamp_head(p, size);
    }
    for (unsigned k = 0; k < 50; ++k, ++i) {
      if (k % 5 == 0) {
        check_head(fresh[k], size);
        free(fresh[k]);
        continue;
      }
      char*& slot = self.objects[at++ % self.slots];
      const uint64_t head = slot != nullptr ? *reinterpret_cast<uint64_t*>(slot) : 8;
      if (head - 8 > 992) wrong("an object's head changed", 8, head);
      free(slot);
      slot = fresh[k];
    }
  }
  for (size_t i = 0; i < self.slots; ++i) free(self.objects[i]);
}

void overlap() {
  const auto threads = static_cast<unsigned>(parameter("threads", 2));
  const size_t slots = parameter("slots", 5000);
  const uint64_t each = parameter("n", 1000) / threads + 1;
  auto* const overlappers = table<overlapper>(threads);
  for (unsigned i = 0; i < threads; ++i) overlappers[i] = {table<char*>(slots), slots, i, each};
  verify_sizes(8, 1000);
  meter m;
  on_threads(overlappers, threads, overlap_work, m, each * threads);
  report_rest();
}

// ---- batches that whoever comes frees -------------------------------------------------------------------------------------------------

constexpr size_t batch_objects = 128;

struct parcel {
  char* objects[batch_objects];
  parcel* next;
};
struct depot {
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  parcel* first = nullptr;
  unsigned held = 0;
  void put(parcel* p) {
    pthread_mutex_lock(&lock);
    p->next = first;
    first = p;
    ++held;
    pthread_mutex_unlock(&lock);
  }
  parcel* get(unsigned at_least) {
    pthread_mutex_lock(&lock);
    parcel* const p = held > at_least ? first : nullptr;
    if (p != nullptr) {
      first = p->next;
      --held;
    }
    pthread_mutex_unlock(&lock);
    return p;
  }
};
struct carrier {
  depot* shared = nullptr;
  uint64_t seed = 0, n = 0;
};

void unpack(parcel* p) {
  for (char* object : p->objects) unmake(object);
  free(p);
}

void carry(void* argument) {
  auto& self = *static_cast<carrier*>(argument);
  random_numbers r(self.seed);
  for (uint64_t i = 0; i < self.n; i += batch_objects) {
    auto* const p = reinterpret_cast<parcel*>(take(sizeof(parcel)));
    for (char*& object : p->objects) object = make(r, 32, 5);
    self.shared->put(p);
    if (parcel* const other = self.shared->get(8)) unpack(other);
  }
}

void parcels() {
  const auto threads = static_cast<unsigned>(parameter("threads", 2));
  const uint64_t each = parameter("n", 1000) / threads + 1;
  depot shared;
  auto* const carriers = table<carrier>(threads);
  for (unsigned i = 0; i < threads; ++i) carriers[i] = {&shared, i + 1u, each};
  verify_sizes(32, 1024);
  meter m;
  on_threads(carriers, threads, carry, m, each * threads);
  while (parcel* const p = shared.get(0)) unpack(p);
  report_rest();
}

// ---- numbers of many digits, one small object a result -------------------------------------------------------------------------------

struct number {
  uint32_t length;
  uint32_t digits[1];
};

number* number_of(uint32_t length) {
  auto* const n = reinterpret_cast<number*>(take(sizeof(uint32_t) * (length + 1)));
  n->length = length;
  return n;
}

number* multiply_add(const number* a, uint32_t factor, uint32_t carry) {
  number* const result = number_of(a->length + 1);
  uint64_t sum = carry;
  for (uint32_t i = 0; i < a->length; ++i) {
    sum += static_cast<uint64_t>(a->digits[i]) * factor;
    result->digits[i] = static_cast<uint32_t>(sum);
    sum >>= 32;
  }
  result->digits[a->length] = static_cast<uint32_t>(sum);
  if (sum == 0) --result->length;
  return result;
}

number* divide(const number* a, uint32_t divisor, uint32_t& rest) {
  number* const result = number_of(a->length);
  uint64_t left = 0;
  for (uint32_t i = a->length; i-- > 0;) {
    left = left << 32 | a->digits[i];
    result->digits[i] = static_cast<uint32_t>(left / divisor);
    left %= divisor;
  }
  while (result->length > 1 && result->digits[result->length - 1] == 0) --result->length;
  rest = static_cast<uint32_t>(left);
  return result;
}

/// Products that are multiplied up and divided down again; each step is a number of its own, the one before is freed.
void numbers() {
  const uint64_t n = parameter("n", 1000);
  constexpr unsigned steps = 24;
  random_numbers r(23);
  uint64_t operations = 0;
  meter m;
  m.start();
  while (operations < n) {
    uint32_t factors[steps];
    uint32_t rests[steps];
    number* x = number_of(1);
    x->digits[0] = 1;
    for (unsigned i = 0; i < steps; ++i) {
      factors[i] = static_cast<uint32_t>(r.next() | 0x80000000u);
      rests[i] = static_cast<uint32_t>(r.below(1000));
      number* const next = multiply_add(x, factors[i], rests[i]);
      free(x);
      x = next;
    }
    for (unsigned i = steps; i-- > 0;) {
      uint32_t rest = 0;
      number* const next = divide(x, factors[i], rest);
      free(x);
      x = next;
      if (rest != rests[i]) wrong("a number changed", rests[i], rest);
    }
    if (x->length != 1 || x->digits[0] != 1) wrong("a number changed", 1, x->digits[0]);
    free(x);
    operations += 2 * steps + 1;
  }
  m.stop(operations);
  report_rest();
}

// ---- a table of words: strings that are built, looked up, lengthened and dropped ------------------------------------------------------

struct word {
  word* next;
  char* text;
  uint64_t hash;
  uint32_t length, uses;
};

uint64_t hash_of(const char* text, size_t length) {
  uint64_t h = 1469598103934665603u;
  for (size_t i = 0; i < length; ++i) h = (h ^ static_cast<unsigned char>(text[i])) * 1099511628211u;
  return h;
}

void check_word(const word* w) {
  if (hash_of(w->text, w->length) != w->hash) wrong("a word changed", w->hash, hash_of(w->text, w->length));
}

void words() {
  const uint64_t n = parameter("n", 1000);
  constexpr size_t buckets = 16384, most = 40000;
  auto** const heads = table<word*>(buckets);
  random_numbers r(29);
  size_t held = 0;
  meter m;
  m.start();
  for (uint64_t i = 0; i < n; ++i) {
    char* line = nullptr;
    size_t length = 0;
    const uint64_t meaning = r.below(60000);
    for (uint64_t part = meaning + 1; part != 0; part /= 7) {  // a line grows as it is read
      char* const longer = static_cast<char*>(realloc(line, length + 12));
      if (longer == nullptr) refused(length + 12);
      line = longer;
      for (unsigned k = 0; k < 8; ++k) line[length++] = static_cast<char>('a' + (part + k * meaning) % 26);
    }
    const uint64_t hash = hash_of(line, length);
    word** link = &heads[hash % buckets];
    while (*link != nullptr && ((*link)->hash != hash || (*link)->length != length)) link = &(*link)->next;
    word* const found = *link;
    if (found != nullptr && (memcmp(found->text, line, length) != 0)) wrong("a word changed", hash, found->hash);
    if (found != nullptr && ++found->uses > 3) {  // old enough
      *link = found->next;
      check_word(found);
      free(found->text);
      free(found);
      --held;
    } else if (found == nullptr && held < most) {
      auto* const w = reinterpret_cast<word*>(take(sizeof(word)));
      *w = {heads[hash % buckets], take(length), hash, static_cast<uint32_t>(length), 0};
      memcpy(w->text, line, length);
      heads[hash % buckets] = w;
      ++held;
    }
    free(line);
  }
  m.stop(n);
  for (size_t b = 0; b < buckets; ++b)
    while (word* const w = heads[b]) {
      heads[b] = w->next;
      check_word(w);
      free(w->text);
      free(w);
    }
  report_rest();
}

}  // namespace

const workload mixed_workloads[] = {{"cross", cross},     {"overlap", overlap}, {"parcels", parcels},
                                    {"numbers", numbers}, {"words", words},     {nullptr, nullptr}};

}  // namespace work
