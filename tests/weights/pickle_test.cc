// SPDX-License-Identifier: Apache-2.0
// The pickle interpreter: what torch writes is read, everything else is refused by name, and no bytes make it
// crash, recurse, hang or take memory that they do not pay for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "fixtures.h"
#include "torch_fixtures.h"
#include "weights/pickle_machine.h"
#include "weights/tensor_pickle.h"

namespace peregrine::weights {
namespace {

using core::DType;
using core::ErrorKind;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using namespace std::string_literals;  // NOLINT

/// What was read, and the bytes that its names lie in.
struct Read : PickledTensors {
  std::unique_ptr<const std::string> bytes;
};

Read read(std::string bytes) {
  auto kept = std::make_unique<const std::string>(std::move(bytes));
  PickledTensors tensors = read_tensor_pickle(*kept, "model.bin: data.pkl");
  return {std::move(tensors), std::move(kept)};
}

Caught refused(const std::string& bytes) {
  return caught([&] { read(bytes); });
}

void expect_refused(const std::string& bytes, ErrorKind kind, const std::string& part) {
  const Caught error = refused(bytes);
  EXPECT_EQ(error.kind, kind) << error.message;
  EXPECT_THAT(error.message, AllOf(StartsWith("model.bin: data.pkl: "), HasSubstr(part)));
}

std::string repeated(const std::string& part, std::size_t count) {
  std::string out;
  out.reserve(part.size() * count);
  for (std::size_t i = 0; i < count; ++i) out += part;
  return out;
}

const std::string kTensor = pickle::vector("FloatStorage", "0", 4);

TEST(Pickle, ReadsAStateDictWithItsMetadata) {
  // An OrderedDict filled in two goes, with the attribute that state_dict() gives it.
  const std::string versions = "}" + pickle::text("") + "}" + pickle::text("version") + "K\1ss";
  const std::string bytes =
      "\x80\x02" + pickle::ordered_dict() + "q\x00("s + pickle::text("w") +
      pickle::tensor(pickle::storage("HalfStorage", "7", 60), 12, {2, 3, 4}, {12, 4, 1}) + "u" +
      pickle::text("n") + pickle::vector("LongStorage", "8", 5) + "s" + "}" + pickle::text("_metadata") +
      versions + "sb.";
  const Read out = read(bytes);
  ASSERT_EQ(out.tensors.size(), 2u);
  const PickledTensor &n = out.tensors[0], &w = out.tensors[1];
  EXPECT_EQ(n.name, "n");
  EXPECT_EQ(n.dtype, DType::kI64);
  EXPECT_EQ(w.name, "w");
  EXPECT_EQ(w.dtype, DType::kF16);
  EXPECT_THAT(w.shape, ElementsAre(2, 3, 4));
  EXPECT_THAT(w.strides, ElementsAre(12, 4, 1));
  EXPECT_EQ(w.offset, 12u);
  EXPECT_EQ(w.storage, "7");
  EXPECT_EQ(w.storage_count, 60u);
  EXPECT_TRUE(out.passed_over.empty());
}

TEST(Pickle, ReadsProtocolsFourAndFive) {
  const auto word = [](const std::string& text) {
    return "\x8c" + std::string(1, static_cast<char>(text.size())) + text;
  };
  const auto named = [&](const std::string& module, const std::string& name) {
    return word(module) + "\x94" + word(name) + "\x94\x93\x94";  // memoized, as Python does
  };
  const std::string storage = "(" + word("storage") + named("torch", "BFloat16Storage") + word("0") +
                              word("cuda:0") + "M\x2c\x01t\x94Q";
  const std::string body = "}\x94(" + word("w") + named("torch._utils", "_rebuild_tensor_v2") + "(" +
                           storage + "K\0K\x1eK\x0a\x86\x94K\x0aK\1\x86\x94\x89"s +
                           named("collections", "OrderedDict") + ")R\x94t\x94R\x94" + word("b") +
                           "j\x0c\0\0\0u."s;
  for (const char* protocol : {"\x80\x04", "\x80\x05"}) {
    const Read out = read(protocol + ("\x95" + little(std::uint64_t{body.size()})) + body);
    ASSERT_EQ(out.tensors.size(), 1u);
    EXPECT_EQ(out.tensors[0].dtype, DType::kBF16);
    EXPECT_THAT(out.tensors[0].shape, ElementsAre(30, 10));
    EXPECT_EQ(out.tensors[0].storage_count, 300u);
    EXPECT_THAT(out.passed_over, ElementsAre("b"));
  }
}

TEST(Pickle, ReadsParametersAndTypedTensors) {
  const std::string parameter = pickle::name("torch._utils", "_rebuild_parameter") +
                                pickle::tuple({kTensor, "\x88", pickle::ordered_dict()}) + "R";
  const std::string untyped =
      pickle::tuple({pickle::text("storage"), pickle::name("torch.storage", "UntypedStorage"),
                     pickle::text("1"), pickle::text("cpu"), pickle::integer(8)}) +
      "Q";
  const std::string typed = pickle::name("torch._utils", "_rebuild_tensor_v3") +
                            pickle::tuple({untyped, "K\1"s, "K\3\x85"s, "K\1\x85"s, "\x89",
                                           pickle::ordered_dict(), pickle::name("torch", "uint16"), "}"}) +
                            "R";
  const Read out = read(pickle::dict({{"p", parameter}, {"t", typed}}));
  ASSERT_EQ(out.tensors.size(), 2u);
  EXPECT_EQ(out.tensors[0].dtype, DType::kF32);
  EXPECT_EQ(out.tensors[1].dtype, DType::kU16);
  EXPECT_EQ(out.tensors[1].storage_dtype, DType::kU8);
}

TEST(Pickle, PassesOverPlainData) {
  const Read out = read(pickle::dict({{"epoch", "K\7"},
                                      {"rate", "G?\xf0\0\0\0\0\0\0"s},
                                      {"none", "N"},
                                      {"list", "](K\1K\2e"},
                                      {"one", "]K\1a"},
                                      {"set", "\x8f(K\1\x90"},
                                      {"frozen", "(K\1\x91"},
                                      {"bytes", "C\2ab"},
                                      {"large", "\x8a\x09\0\0\0\0\0\0\0\0\1"s},
                                      {"nested", "(" + pickle::text("a") + kTensor + "d"},
                                      {"w", kTensor}}));
  ASSERT_EQ(out.tensors.size(), 1u);
  EXPECT_EQ(out.tensors[0].name, "w");
  EXPECT_EQ(out.passed_over.size(), 10u);
}

TEST(Pickle, RefusesEveryOtherNameAndRunsNothing) {
  const struct {
    const char *module, *name;
  } hostile[] = {{"os", "system"},
                 {"posix", "system"},
                 {"builtins", "eval"},
                 {"__builtin__", "eval"},
                 {"subprocess", "Popen"},
                 {"torch", "load"},
                 {"torch.hub", "load"},
                 {"numpy.core.multiarray", "scalar"},
                 {"torch._utils", "_rebuild_qtensor"},
                 {"torch", "FloatStorage.x"},
                 {"", ""}};
  for (const auto& [module, name] : hostile) {
    const std::string full = fmt::format("refers to '{}.{}'; only tensors are read", module, name);
    const std::string call = pickle::tuple({pickle::text("echo pwned")}) + "R";
    expect_refused(pickle::dict({{"w", pickle::name(module, name) + call}}), ErrorKind::kUnsupported, full);
    expect_refused("\x80\x04" + pickle::text(module) + pickle::text(name) + "\x93" + call + ".",
                   ErrorKind::kUnsupported, full);
    expect_refused("(" + pickle::text("echo") + "i" + module + "\n" + name + "\n.", ErrorKind::kUnsupported,
                   full);
  }
  expect_refused("c" + std::string(5000, 'x') + "\n" + std::string(5000, 'y') + "\n.",
                 ErrorKind::kUnsupported, "refers to");
}

TEST(Pickle, RefusesOperationsThatTensorsDoNotNeed) {
  // Protocol 0, persistent ids as text, objects, extension codes, out-of-band buffers, and bytes without
  // meaning.
  for (const std::string operation :
       {"I1\n", "L1L\n", "F1.0\n", "S'a'\n", "Va\n", "Pid\n", "p0\n", "g0\n", "\x81", "\x92", "\x82\1",
        "\x83\1\1", "\x84\1\1\1\1", "\x97", "\x98", "\xff", "A"}) {
    expect_refused("\x80\x02)" + operation + ".", ErrorKind::kUnsupported, "is not one that tensors need");
  }
  const std::string ordered = pickle::name("collections", "OrderedDict");
  expect_refused("(" + ordered + "o.", ErrorKind::kUnsupported, "is not one that tensors need");
  expect_refused("(icollections\nOrderedDict\n.", ErrorKind::kInvalidArgument, "an object of class");
  expect_refused("\x80\x06N.", ErrorKind::kUnsupported, "protocol 6");
}

TEST(Pickle, RefusesMisuseOfWhatItKnows) {
  const auto refuse = [](const std::string& bytes, const std::string& part) {
    expect_refused(bytes, ErrorKind::kInvalidArgument, part);
  };
  const std::string ordered = pickle::name("collections", "OrderedDict");
  const std::string rebuild = pickle::name("torch._utils", "_rebuild_tensor_v2");
  refuse(ordered + "]\x85R.", "made from 1 arguments");
  refuse(pickle::name("torch", "FloatStorage") + ")R.", "torch.FloatStorage is called");
  refuse("N)R.", "None is called with a tuple");
  refuse(ordered + "NR.", "called with None");
  refuse(rebuild + ")R.", "called with 0 arguments");
  refuse(rebuild + pickle::tuple({"N", "K\1", ")", ")", "N", "N"}) + "R.",
         "None, an integer, a tuple and a tuple");
  refuse(pickle::name("torch._utils", "_rebuild_parameter") + pickle::tuple({"N", "N", "N"}) + "R.",
         "a parameter");
  refuse("}}b.", "a dict is given a dict as its state");
  refuse(kTensor + "}b.", "a tensor is given a dict as its state");
  refuse(pickle::ordered_dict() + "Nb.", "an OrderedDict is given None");
  refuse("NQ.", "a reference that is not");
  refuse(pickle::storage("FloatStorage", "0", -1) + ".", "a reference that is not");
  refuse(pickle::tuple({pickle::text("module"), pickle::name("torch", "FloatStorage"), pickle::text("0"),
                        pickle::text("cpu"), "K\1"}) +
             "Q.",
         "a reference that is not");
  refuse("NN\x93.", "a class is named by None and None");
  const auto with_metadata = [&](const std::string& metadata) {
    return pickle::dict({{"w", rebuild +
                                   pickle::tuple({pickle::storage("FloatStorage", "0", 1), "K\0"s, ")", ")",
                                                  "\x89", pickle::ordered_dict(), metadata}) +
                                   "R"}});
  };
  EXPECT_EQ(refused(with_metadata("}")).message, "no error");
  EXPECT_EQ(refused(with_metadata("N")).message, "no error");
  expect_refused(with_metadata("}" + pickle::text("neg") + "\x88s"), ErrorKind::kUnsupported, "metadata");
}

TEST(Pickle, RefusesWhatIsNoDictOfTensors) {
  const auto refuse = [](const std::string& bytes, const std::string& part) {
    expect_refused(bytes, ErrorKind::kInvalidArgument, part);
  };
  refuse(kTensor + ".", "holds a tensor, not a dict");
  refuse(").", "holds a tuple, not a dict");
  refuse("}.", "has no tensors");
  refuse(pickle::dict({{"epoch", "K\1"}, {"model", "}" + pickle::text("w") + kTensor + "s"}}),
         "a dict under 'model'");
  refuse("}K\1" + kTensor + "s.", "a tensor's name must be a text, found an integer");
  refuse(pickle::dict({{std::string(1025, 'x'), kTensor}}), "its name has 1025 bytes; at most 1024");
  refuse(pickle::dict({{"w", kTensor}, {"a", kTensor}, {"w", kTensor}}), "tensor 'w' is given twice");
  const auto sized = [](std::int64_t offset, std::vector<std::int64_t> shape,
                        std::vector<std::int64_t> strides) {
    return pickle::dict(
        {{"w", pickle::tensor(pickle::storage("FloatStorage", "0", 4), offset, shape, strides)}});
  };
  refuse(sized(-1, {4}, {1}), "offset -1 is negative");
  refuse(sized(0, {-4}, {1}), "its sizes must be integers from 0 to 2^63 - 1, found -4");
  refuse(sized(0, {4}, {-1}), "its strides must be integers from 0 to 2^63 - 1, found -1");
  refuse(sized(0, {4, 1}, {1}), "2 sizes, but 1 strides");
  refuse(sized(0, std::vector<std::int64_t>(33, 1), {1}), "33 sizes; at most 32");
  refuse(pickle::dict({{"w", pickle::name("torch._utils", "_rebuild_tensor_v2") +
                                 pickle::tuple({pickle::storage("FloatStorage", "0", 4), "K\0"s,
                                                "\x8a\x09\0\0\0\0\0\0\0\0\1\x85"s, "K\1\x85", "\x89", "N"}) +
                                 "R"}}),
         "found an integer beyond 64 bits");
}

TEST(Pickle, StackAndMarksAreChecked) {
  for (const std::string bytes :
       {".",      "0.",     "2.",       "t.",     "\x85.",   "N\x86.", "NN\x87.", "a.",  "Na.",
        "Ns.",    "NNs.",   "]NNs.",    "]NNNu.", "](Nu.",   "}(Nu.",  "u.",      "(u.", "e.",
        "(e.",    "}(Ne.",  "](N\x90.", "\x90.",  "R.",      "NR.",    "b.",      "}b.", "Q.",
        "q\x01.", "h\x01.", "\x94.",    "N(R.",   "N(\x85.", "](Na.",  "(Nd.",    "1.",  "N(.",
        "NN.",    "N.N",    "\x93.",    "N(Ns.",  "l.",      "\x91."}) {
    const Caught error = refused(bytes);
    EXPECT_EQ(error.kind, ErrorKind::kInvalidArgument) << core::quoted(bytes) << ": " << error.message;
  }
  // A mark may be thrown away, as Python's own reader allows.
  EXPECT_EQ(refused("((00" + pickle::dict({{"w", kTensor}})).message, "no error");
  EXPECT_EQ(refused("(N1" + pickle::dict({{"w", kTensor}})).message, "no error");
}

TEST(Pickle, TruncationAtEveryByteIsRefused) {
  const std::string sound = pickle::dict({{"w", kTensor}, {"b", pickle::vector("HalfStorage", "1", 70000)}});
  EXPECT_EQ(refused(sound).message, "no error");
  for (std::size_t size = 0; size < sound.size(); ++size) {
    const Caught error = refused(sound.substr(0, size));
    EXPECT_EQ(error.kind, ErrorKind::kDataLoss) << size << ": " << error.message;
  }
  for (const std::string& bytes :
       {"X\xff\xff\xff\xff"s, "\x8d\xff\xff\xff\xff\xff\xff\xff\xff"s, "B\xff\xff\xff\xff"s,
        "\x8e\0\0\0\0\0\0\0\x80"s, "\x96\0\0\0\0\0\0\0\x80"s, "\x8b\xff\xff\xff\xff"s, "\x8a\xff"s,
        "\x95\xff\xff\xff\xff\xff\xff\xff\xffN."s, "cos\n"s}) {
    EXPECT_EQ(refused(bytes).kind, ErrorKind::kDataLoss) << core::quoted(bytes);
  }
}

TEST(Pickle, NestingCostsNoStack) {
  // Each value holds the one before.
  expect_refused(")" + repeated("\x85", 3'000'000) + ".", ErrorKind::kInvalidArgument, "holds a tuple");
  expect_refused("N" + repeated("\x85\x85\x85\x85", 1'000'000) + ".", ErrorKind::kInvalidArgument,
                 "more than 4000000 values");
  expect_refused(repeated("(", 5'000'000), ErrorKind::kInvalidArgument, "nested deeper than 1000");
  expect_refused(repeated("]", 5'000'000), ErrorKind::kInvalidArgument,
                 "more than 1000000 values on the stack");
}

TEST(Pickle, SharingIsNotExpanded) {
  // A tuple of two of the one before, 1,000 times: 2^1000 values if it were written out.
  const std::string bomb = ")" + repeated("2\x86", 1'000);
  expect_refused(bomb + ".", ErrorKind::kInvalidArgument, "holds a tuple");
  const Read out = read(pickle::dict({{"bomb", bomb}, {"w", kTensor}}));
  EXPECT_EQ(out.tensors.size(), 1u);
  expect_refused(pickle::dict({{"w", pickle::name("torch._utils", "_rebuild_tensor_v2") +
                                         pickle::tuple({pickle::storage("FloatStorage", "0", 4), "K\0"s, bomb,
                                                        "K\1\x85", "\x89", "N"}) +
                                         "R"}}),
                 ErrorKind::kInvalidArgument, "its sizes must be integers");
  // One tensor under very many names.
  std::string many = "\x80\x02}" + kTensor + "q\x01" + "0(";
  for (int i = 0; i < 200'001; ++i) many += pickle::text(std::to_string(i)) + "h\x01";
  expect_refused(many + "u.", ErrorKind::kInvalidArgument, "more than 200000 tensors");
}

TEST(Pickle, MemoAndOperationsAreBounded) {
  expect_refused("Nr\xff\xff\xff\xff.", ErrorKind::kInvalidArgument, "memo key 4294967295");
  expect_refused("Nr" + little(std::uint32_t{4'000'000}) + ".", ErrorKind::kInvalidArgument,
                 "the largest read is 3999999");
  EXPECT_EQ(refused("Nr" + little(std::uint32_t{3'999'999}) + "j" + little(std::uint32_t{3'999'999}) + "00" +
                    pickle::dict({{"w", kTensor}}))
                .message,
            "no error");
  expect_refused("Nj\xff\xff\xff\xff.", ErrorKind::kInvalidArgument, "was never put");
  expect_refused("N" + repeated("20", 8'000'001) + ".", ErrorKind::kInvalidArgument,
                 "more than 16000000 operations");
  expect_refused(std::string(kMaxPickle + 1, '('), ErrorKind::kInvalidArgument, "at most 67108864 are read");
}

}  // namespace
}  // namespace peregrine::weights
