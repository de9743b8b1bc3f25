// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "ops/attention_fixture.h"

// Long contexts with few queries are cut by segments, so that all threads have work: not one bit of a result
// may come of it.

namespace peregrine::ops::testing {
namespace {

struct Form {
  std::int32_t heads, kv_heads, head_dim;
  DType compute, cache;
  std::int32_t window = 0;
  bool slopes = false;
  bool lengths = false;
};

class AttentionSplit : public AttentionFixture {
 protected:
  /// What rows [first, first + count) of each sequence get with so many threads.
  std::vector<float> attend(const Form& form, const std::vector<std::int32_t>& lengths,
                            const std::vector<std::pair<std::int32_t, std::int32_t>>& rows, int threads) {
    random_.seed(11);
    arrays_.clear();
    cache_.reset();
    stream_.reset();
    device_ = DeviceCase{GetParam().name, GetParam().isa, threads}.create();
    stream_ = device_->create_stream();
    make_cache({.layers = 1, .kv_heads = form.kv_heads, .head_dim = form.head_dim, .dtype = form.cache},
               lengths);
    store(form, lengths);
    std::vector<SequenceRows> parts;
    for (std::size_t s = 0; s < rows.size(); ++s)
      parts.push_back({rows[s].first, rows[s].second, tables_[s]});
    const HostBatch host(parts);
    const std::int64_t width = std::int64_t{form.heads} * form.head_dim;
    const DeviceMatrix queries = make_matrix(random_data(random_, host.rows(), width, form.compute));
    const DeviceMatrix out = make_matrix(host.rows(), width, form.compute);
    AttentionArgs args{};
    args.batch = batch(host);
    args.queries = queries;
    args.heads = form.heads;
    args.cache = cache_.get();
    args.scale = 0.2f;
    args.window = form.window;
    if (form.slopes) args.alibi_slopes = make_array(std::vector<float>(form.heads, 0.01f));
    if (form.lengths) args.lengths = make_array(lengths);
    args.out = out;
    stream_->attention(args);
    return read(out).values;
  }

  /// Random keys and values, some rows at a time.
  void store(const Form& form, const std::vector<std::int32_t>& lengths) {
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      for (std::int32_t begin = 0; begin < lengths[s]; begin += 2048) {
        const std::int32_t count = std::min(2048, lengths[s] - begin);
        const DeviceMatrix rows =
            make_matrix(random_data(random_, count, 2 * form.kv_heads * form.head_dim, form.compute));
        stream_->rotate_and_store({batch(HostBatch({{begin, count, tables_[s]}})),
                                   rows,
                                   0,
                                   {},
                                   {},
                                   RotaryStyle::kHalves,
                                   cache_.get(),
                                   0});
        finish();
      }
    }
  }

  void check(const Form& form, const std::vector<std::int32_t>& lengths,
             const std::vector<std::pair<std::int32_t, std::int32_t>>& rows) {
    const std::vector<float> expected = attend(form, lengths, rows, 1);
    EXPECT_TRUE(std::all_of(expected.begin(), expected.end(), [](float x) { return std::isfinite(x); }));
    for (const int threads : {2, 3, 8}) {
      EXPECT_EQ(attend(form, lengths, rows, threads), expected)
          << threads << " threads, " << form.heads << "/" << form.kv_heads << " heads, cache "
          << core::to_string(form.cache) << ", window " << form.window;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, AttentionSplit, ::testing::ValuesIn([] {
                           std::vector<DeviceCase> cases = device_cases();
                           std::erase_if(cases,
                                         [](const DeviceCase& device) { return device.name == "reference"; });
                           return cases;
                         }()),
                         case_name);

TEST_P(AttentionSplit, OneLongSequence) {
  constexpr DType kF32 = DType::kF32, kBF16 = DType::kBF16, kI8 = DType::kI8;
  for (const Form& form : {Form{3, 1, 24, kF32, kF32}, Form{71, 1, 16, kBF16, kBF16},
                           Form{4, 2, 32, kBF16, kI8}, Form{3, 1, 24, kF32, kBF16, 2500},
                           Form{2, 1, 8, kF32, kF32, 0, true}, Form{4, 4, 20, kF32, kI8, 0, false, true}}) {
    check(form, {3001}, {{3000, 1}});
    check(form, {1024}, {{1022, 2}});
  }
}

TEST_P(AttentionSplit, LongOnesAmongShortOnes) {
  constexpr DType kF32 = DType::kF32, kBF16 = DType::kBF16;
  for (const Form& form : {Form{4, 1, 16, kF32, kF32}, Form{6, 2, 16, kBF16, kBF16, 1500}}) {
    check(form, {20, 5000, 1, 2600, 300}, {{19, 1}, {4999, 1}, {0, 1}, {2560, 40}, {290, 3}});
    // A sequence without rows in this step.
    check(form, {20, 1500, 40}, {{19, 1}, {0, 0}, {39, 1}});
  }
}

// More states than there is memory for at a time: several rounds.
TEST_P(AttentionSplit, MoreStatesThanMemory) {
  check({128, 1, 64, DType::kBF16, DType::kBF16}, {32'768}, {{32'767, 1}});
}

}  // namespace
}  // namespace peregrine::ops::testing
