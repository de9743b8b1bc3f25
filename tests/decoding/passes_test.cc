// SPDX-License-Identifier: Apache-2.0
// The passes of all instruction sets give the same bits.
#include "decoding/passes/passes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "support/object_symbols.h"

namespace peregrine::decoding {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kMax = std::numeric_limits<float>::max();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// A 64-bit FNV-1a hash of everything that a pass has put out.
class Digest {
 public:
  template <typename T>
  void add(const T& value) {
    std::array<unsigned char, sizeof(T)> bytes;
    std::memcpy(bytes.data(), &value, sizeof(T));
    for (const unsigned char byte : bytes) hash_ = (hash_ ^ byte) * 0x100000001B3;
  }
  template <typename T>
  void add(const std::vector<T>& values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) add(values[i]);
  }
  std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 0xCBF29CE484222325;
};

struct PassWork {
  const Passes& pass;
  std::vector<float> logits;
  float temperature;
  std::size_t size = logits.size();
  std::vector<float> maxima = std::vector<float>((size + kPassBlock - 1) / kPassBlock);
  std::vector<float> quotients = std::vector<float>(size + kPassOverhang);
  std::vector<float> values = std::vector<float>(size + kPassOverhang);
  std::vector<std::int32_t> ids = std::vector<std::int32_t>(size + kPassOverhang);
  std::vector<std::uint64_t> weights = std::vector<std::uint64_t>(size + kPassOverhang);
  std::vector<std::uint16_t> buckets = std::vector<std::uint16_t>(size);
  std::vector<std::uint64_t> tables = std::vector<std::uint64_t>(kBuckets * kBucketTables);
  std::vector<std::uint32_t> indices = std::vector<std::uint32_t>(size + 1);

  template <typename Function>
  void for_blocks(Function function) const {
    for (std::size_t start = 0; start < size; start += kPassBlock) {
      function(start, std::min(kPassBlock, size - start));
    }
  }

  /// What the passes made of the logits, one after the other, by name.
  std::vector<std::pair<std::string, std::uint64_t>> results() {
    std::vector<std::pair<std::string, std::uint64_t>> out;
    const auto note = [&](const char* name, const Digest& digest) { out.emplace_back(name, digest.value()); };
    bool nan = false;
    Digest sanitized;
    const float maximum = pass.sanitize(logits.data(), size, maxima.data(), &nan);
    sanitized.add(maximum);
    sanitized.add(nan);
    sanitized.add(logits, size);
    sanitized.add(maxima, maxima.size());
    note("sanitize", sanitized);
    if (maximum == -kInf) return out;

    Digest exponentials;
    pass.exponentials(logits.data(), size, maximum, values.data());
    exponentials.add(values, size);
    const double total = pass.sum_of_exponentials(logits.data(), size, maximum);
    exponentials.add(total);
    note("exponentials", exponentials);
    Digest subtracted;
    std::vector<float> log_probs = logits;
    pass.subtract(log_probs.data(), size, maximum + std::log(total));
    subtracted.add(log_probs, size);
    note("subtract", subtracted);
    note_dense(out, maximum / temperature);
    note_list(out, maximum / temperature);
    return out;
  }

  void note_dense(std::vector<std::pair<std::string, std::uint64_t>>& out, float most) {
    most = std::clamp(most, -kMax, kMax);
    Digest blocks;
    std::vector<std::uint64_t> sums(maxima.size());
    pass.weigh_blocks(logits.data(), size, temperature, most, sums.data());
    blocks.add(sums, sums.size());
    out.emplace_back("weigh_blocks", blocks.value());

    Digest between;
    std::uint64_t all = 0;
    const float sure = std::clamp(most - 1, -kMax, kMax), possible = std::clamp(most - 4, -kMax, kMax);
    const std::size_t found_between =
        pass.weigh_between(logits.data(), size, temperature, most, possible, sure, sums.data(), &all,
                           ids.data(), quotients.data(), weights.data());
    between.add(sums, sums.size());
    between.add(all);
    between.add(found_between);
    add_list(between, found_between, true);
    out.emplace_back("weigh_between", between.value());

    Digest spread;
    for_blocks([&](std::size_t start, std::size_t count) {
      pass.spread(logits.data() + start, count, temperature, most, 64.0f, quotients.data() + start,
                  values.data() + start, buckets.data() + start, tables.data());
    });
    spread.add(quotients, size);
    spread.add(values, size);
    spread.add(buckets, size);
    spread.add(tables, tables.size());
    const std::size_t found = pass.find(buckets.data(), size, 5, buckets[size / 2], indices.data());
    spread.add(found);
    spread.add(indices, found);
    out.emplace_back("spread and find", spread.value());

    Digest take;
    std::uint64_t total = 0;
    std::size_t kept = 0;
    const auto middle = static_cast<std::int32_t>(size / 2);
    const float least = quotients[size / 2];
    for_blocks([&](std::size_t start, std::size_t count) {
      kept +=
          pass.take(quotients.data() + start, values.data() + start, count, static_cast<std::int32_t>(start),
                    least, middle, ids.data() + kept, quotients.data() + kept, weights.data() + kept, &total);
    });
    take.add(total);
    take.add(kept);
    add_list(take, kept, true);
    out.emplace_back("take", take.value());
  }

  void note_list(std::vector<std::pair<std::string, std::uint64_t>>& out, float most) {
    most = std::clamp(most, -kMax, kMax);
    Digest list;
    std::size_t kept = 0;
    for_blocks([&](std::size_t start, std::size_t count) {
      kept += pass.gather(logits.data() + start, count, static_cast<std::int32_t>(start), temperature,
                          most - 9, ids.data() + kept, quotients.data() + kept);
    });
    list.add(kept);
    list.add(pass.weigh(quotients.data(), kept, most, weights.data()));
    add_list(list, kept, true);
    out.emplace_back("gather and weigh", list.value());

    Digest far;
    far.add(pass.weighted_surprise(quotients.data(), weights.data(), kept, 3.7));
    far.add(pass.distances(quotients.data(), kept, 3.7, 1.1, values.data()));
    far.add(values, kept);
    std::ranges::fill(tables, 0);
    pass.spread_weights(values.data(), weights.data(), kept, 32.0f, buckets.data(), tables.data());
    far.add(buckets, kept);
    far.add(tables, tables.size());
    out.emplace_back("distances", far.value());

    for (const bool with_weights : {true, false}) {
      Digest compact;
      std::uint64_t total = 0;
      std::size_t left = 0;
      for (std::size_t start = 0; start < kept; start += kPassBlock) {
        std::array<std::uint8_t, kPassBlock> stays;
        const std::size_t count = std::min(kPassBlock, kept - start);
        for (std::size_t i = 0; i < count; ++i) stays[i] = ids[start + i] % 3 != 0 ? 1 : 0;
        const auto at = [&](std::size_t i) {
          return Passes::List{ids.data() + i, quotients.data() + i,
                              with_weights ? weights.data() + i : nullptr};
        };
        left += pass.compact(stays.data(), count, at(start), at(left), &total);
      }
      compact.add(left);
      if (with_weights) compact.add(total);
      add_list(compact, left, with_weights);
      out.emplace_back(with_weights ? "compact with weights" : "compact", compact.value());
      kept = left;
    }
  }

  void add_list(Digest& digest, std::size_t count, bool with_weights) const {
    digest.add(ids, count);
    digest.add(quotients, count);
    if (with_weights) digest.add(weights, count);
  }
};

std::vector<std::vector<float>> rows() {
  std::vector<std::vector<float>> out;
  std::mt19937 random(5);
  for (const float spread : {0.01f, 1.0f, 5.0f, 40.0f}) {
    for (const std::size_t size : {1, 2, 15, 16, 17, 63, 64, 65, 80, 257, 1000, 5003}) {
      std::normal_distribution<float> normal(0, spread);
      std::vector<float> logits(size);
      for (float& logit : logits) logit = normal(random);
      out.push_back(logits);
      for (float& logit : logits) {
        constexpr std::array<float, 8> kOdd = {kNaN, -kNaN, kInf, -kInf, kMax, -kMax, 1e-45f, -0.0f};
        if (random() % 9 == 0) logit = kOdd[random() % kOdd.size()];
      }
      out.push_back(logits);
      for (float& logit : logits) logit = random() % 2 == 0 ? 0.0f : -0.0f;
      out.push_back(logits);
    }
  }
  out.emplace_back(100, -kInf);
  return out;
}

TEST(Passes, GiveTheSameBitsOnEveryInstructionSet) {
  const Passes* const* available = available_passes();
  ASSERT_STREQ(available[0]->name, "passes_plain");
  for (const std::vector<float>& logits : rows()) {
    for (const float temperature : {1.0f, 0.7f, 1e-5f, 1e6f}) {
      const auto expected = PassWork{*available[0], logits, temperature}.results();
      for (const Passes* const* pass = available + 1; *pass != nullptr; ++pass) {
        const auto found = PassWork{**pass, logits, temperature}.results();
        ASSERT_EQ(found.size(), expected.size());
        for (std::size_t i = 0; i < found.size(); ++i) {
          ASSERT_EQ(found[i].second, expected[i].second) << (*pass)->name << ", " << found[i].first << ", "
                                                         << logits.size() << " logits, / " << temperature;
        }
      }
    }
  }
}

TEST(Passes, TheFastestIsTheLastAvailable) {
  const Passes* const* last = available_passes();
  while (last[1] != nullptr) ++last;
  EXPECT_EQ(&passes(), *last);
}

// A weak symbol may be merged by the linker with the copy of another object, and then AVX-512 code runs on a
// processor that has none.
TEST(Passes, ObjectsExportNothingButTheirTable) {
  std::ifstream list(PEREGRINE_DECODING_OBJECTS);
  std::set<std::string> seen;
  for (std::string object; std::getline(list, object);) {
    if (object.find("/passes/") == std::string::npos) continue;
    const std::string isa = testing::source_name(object);
    if (isa == "passes") continue;
    seen.insert(isa);
    const std::vector<std::string> exported = testing::exported_symbols(PEREGRINE_NM, object);
    const std::string name = "passes_" + isa;
    ASSERT_EQ(exported.size(), 1u) << object << " exports more than its table: " << exported.back();
    EXPECT_EQ(exported[0].substr(2),
              "_ZN9peregrine8decoding" + std::to_string(name.size()) + name + "7kPassesE");
  }
  EXPECT_EQ(seen, (std::set<std::string>{"plain", "avx2", "avx512"}));
}

}  // namespace
}  // namespace peregrine::decoding
